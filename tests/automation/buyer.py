"""Runs the shop flow as a worker would: one account, its saved session, its cart as last seen."""

from datetime import timedelta

from automation.guard import NetworkPolicy
from automation.session import SessionSpec
from automation.shop import CartRequest, Credentials, add_to_cart
from automation.site import Site, site_problems

PASSWORD = "right-Password"


AS_LAST_SEEN = object()


class Buyer:
    """`intents` are what the flow has committed, and `is_clear` whether it has said since that
    nothing of it happened; `trail` are the phases of its last run.

    `cart` is what the account's cart is known to hold; None: nobody has looked, or an attempt
    failed and may have changed it.
    """

    def __init__(self, host, email="buyer@example.test", password=PASSWORD):
        self.host = host
        self.credentials = Credentials(email, password)
        self.intents = []
        self.is_clear = True
        self.trail = []
        self.cart = None
        self.storage_state = None
        self.version = 0

    def add(
        self,
        vendor,
        request,
        *,
        known_cart=AS_LAST_SEEN,
        intent=None,
        timeout=60,
        at_checkpoint=None,
    ):
        if isinstance(request, str):
            request = CartRequest(request)
        known_cart = self.cart if known_cart is AS_LAST_SEEN else known_cart
        assert site_problems(vendor) == {}
        site = Site.from_data(vendor)

        async def checkpoint(made):
            self.is_clear = made is None
            if made is None:
                return
            self.intents.append(made)
            if at_checkpoint:
                at_checkpoint()

        async def flow(session):
            self.trail = session.trail
            result = await add_to_cart(
                session,
                site,
                self.credentials,
                request,
                known_cart=known_cart,
                intent=intent,
                checkpoint=checkpoint,
            )
            self.storage_state = await session.storage_state()
            self.version += 1
            session.version = str(self.version)
            return result

        spec = SessionSpec(
            key=f"{site.domain} {self.credentials.email}",
            network=NetworkPolicy(
                (site.domain, *site.allowed_domains), allow_private=site.allow_private_network
            ),
            storage_state=self.storage_state,
            version=str(self.version) if self.version else None,
            secrets=(self.credentials.password,),
        )
        self.cart = None
        result = self.host.run(flow, spec, timeout=timedelta(seconds=timeout))
        self.cart = result.cart
        return result

    def forget_browser(self):
        """As if another worker took over: what is left is the saved storage state."""
        self.version += 1
