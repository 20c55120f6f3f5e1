"""Starts the Oscar shop for a test, tells how a vendor for it looks, and reads its baskets.

This module imports no Django: Oscar runs in its own process and is met only through HTTP, a
browser, and a look into its database. That look is what tests compare our own claims with.
"""

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

REPOSITORY = Path(__file__).resolve().parents[3]
START_TIMEOUT_SECONDS = 60

SELECTORS: dict[str, Any] = {
    "email_input": "#id_login-username",
    "password_input": "#id_login-password",
    "login_button": "button[name='login_submit']",
    "logged_in_indicator": "#logout_link",
    "logged_in_indicator_is_hidden": False,
    # Oscar first says that there are errors; the one with the icon says which.
    "login_error": "#login_form .alert-danger:has(.fa-exclamation)",
    "cookie_accept": None,
    # Oscar's product page has no field for it; the number is set in the cart.
    "quantity_input": None,
    "variants": {
        "Cover": {"kind": "select", "selector": "#add_to_basket_form select[name='cover']"},
        "Initials": {"kind": "fill", "selector": "#add_to_basket_form input[name='initials']"},
    },
    # "Merino Jumper, Medium": each variant is a page, the parent's page links those in stock.
    "variant_link": (
        "//div[contains(@class, 'product_main')]"
        "//a[substring-after(normalize-space(), ', ') = '{value}']"
    ),
    # Recently viewed products further down have add buttons and stock messages of their own.
    "add_to_cart": "#add_to_basket_form button[type='submit']",
    # The log-in greets with an .alert-success too: the text tells them apart.
    "cart_confirmation": (
        "//div[@id='messages']/div[contains(@class, 'alert-success')]"
        "[contains(normalize-space(), 'added to your cart')]"
    ),
    "cart_error": "#messages .alert-danger, #basket_formset .error-block",
    "out_of_stock_indicator": (
        ".product_main .availability.outofstock, .product_main .availability.unavailable"
    ),
    # "Items to buy later" are .basket-items in another form.
    "cart_row": "#basket_formset .basket-items",
    "cart_row_name": "h3 a",
    "cart_quantity": "input[name$='-quantity']",
    "cart_update": ".checkout-quantity button[type='submit']",
    "cart_empty_indicator": "//div[@id='content_inner']/p[contains(., 'Your cart is empty')]",
    "blocked_indicator": None,
    "captcha_indicator": None,
}

# Oscar's `Line.description`: the title, a child's or else its parent's, then the chosen options.
BASKET_LINES = """
    SELECT coalesce(nullif(product.title, ''), parent.title) || coalesce(
             ' (' || (SELECT group_concat(wish, ', ') FROM (
                SELECT option.name || ' = ''' || json_extract(chosen.value, '$') || '''' AS wish
                FROM basket_lineattribute AS chosen
                JOIN catalogue_option AS option ON option.id = chosen.option_id
                WHERE chosen.line_id = line.id ORDER BY chosen.id)) || ')', ''),
           '/catalogue/' || product.slug || '_' || product.id || '/',
           line.quantity
    FROM basket_line AS line
    JOIN basket_basket AS basket ON basket.id = line.basket_id
    JOIN auth_user AS owner ON owner.id = basket.owner_id
    JOIN catalogue_product AS product ON product.id = line.product_id
    LEFT JOIN catalogue_product AS parent ON parent.id = product.parent_id
    WHERE basket.status = 'Open' AND owner.email = ?
    ORDER BY line.id
"""


class BasketLine(NamedTuple):
    title: str
    product_path: str
    quantity: int


class OscarShop:
    """A running Oscar with a fresh catalogue, no accounts and no baskets.

    Browsers reach it as `http://oscar.localhost:PORT`; Python does not resolve that name, so
    this class talks to 127.0.0.1. Leaving the context ends the process and deletes its files.
    """

    host = "oscar.localhost"

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="oscar-")
        self._database = Path(self._directory.name) / "oscar.sqlite3"
        log = Path(self._directory.name) / "oscar.log"
        # The socket listens before the process runs, so nobody can take the port in between and
        # the first request waits in its queue until Oscar is ready.
        with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.shops.oscar.serve", str(listener.fileno())],
                cwd=REPOSITORY,
                env={
                    "PATH": os.environ["PATH"],
                    "DJANGO_SETTINGS_MODULE": "tests.shops.oscar.settings",
                    "OSCAR_DATABASE": str(self._database),
                },
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.url = f"http://{self.host}:{self._port}"
        try:
            with self._client() as client:
                client.get("/catalogue/").raise_for_status()
        except httpx.HTTPError as error:
            said = log.read_text(errors="replace")
            self.close()
            raise RuntimeError(f"The Oscar shop did not start. Its output:\n{said}") from error

    def vendor_data(self) -> dict[str, Any]:
        """The vendor as the REST API takes it: everything that is known about Oscar's pages."""
        return {
            "name": "Oscar",
            "domain": self.host,
            "login_url": f"{self.url}/accounts/login/",
            "cart_url": f"{self.url}/basket/",
            "cart_scope": "account",
            "login_required": True,
            "allow_private_network": True,
            "selectors": deepcopy(SELECTORS),
        }

    def create_account(self, email: str, password: str) -> None:
        """Registers a customer on the shop's own page."""
        page = "/accounts/register/"
        with self._client() as client:
            client.get(page).raise_for_status()
            answer = client.post(
                page,
                data={
                    "csrfmiddlewaretoken": client.cookies["csrftoken"],
                    "email": email,
                    "password1": password,
                    "password2": password,
                },
            )
        if not answer.has_redirect_location:
            raise ValueError(f"Oscar did not register {email}: it showed the form again.")

    def product_url(self, title: str) -> str:
        """The page of the product with that title, which may be a child's."""
        rows = self._query("SELECT slug, id FROM catalogue_product WHERE title = ?", title)
        if not rows:
            raise LookupError(f"Oscar sells no {title!r}; see tests/shops/oscar/catalogue.py.")
        slug, number = rows[0]
        return f"{self.url}/catalogue/{slug}_{number}/"

    def basket(self, email: str) -> list[BasketLine]:
        """What Oscar's own tables say is in the open basket of that account."""
        return [BasketLine(*row) for row in self._query(BASKET_LINES, email)]

    def close(self) -> None:
        """Ends the process and deletes its files; safe to call twice."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}",
            timeout=START_TIMEOUT_SECONDS,
            trust_env=False,
        )

    def _query(self, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
        read_only = f"{self._database.as_uri()}?mode=ro"
        with closing(sqlite3.connect(read_only, uri=True)) as connection:
            return connection.execute(statement, parameters).fetchall()
