"""What the Oscar shop sells: one product for each way in which Oscar sells things.

Quantities in stock and the names of options are what the end-to-end tests rely on.
"""

from decimal import Decimal
from typing import Any

from oscar.core.loading import get_model

AttributeOptionGroup = get_model("catalogue", "AttributeOptionGroup")
Category = get_model("catalogue", "Category")
Option = get_model("catalogue", "Option")
Partner = get_model("partner", "Partner")
Product = get_model("catalogue", "Product")
ProductClass = get_model("catalogue", "ProductClass")
StockRecord = get_model("partner", "StockRecord")


def fill_catalogue() -> None:
    """Puts the products on sale; for an empty database, once."""
    goods = ProductClass.objects.create(name="Goods", track_stock=True)
    outfitters = Partner.objects.create(name="Northern Outfitters")
    department = Category.add_root(name="Outdoors")

    def put_on_sale(product: Any, price: str, in_stock: int) -> None:
        StockRecord.objects.create(
            product=product,
            partner=outfitters,
            partner_sku=product.slug,
            price=Decimal(price),
            num_in_stock=in_stock,
        )

    def create_product(title: str, **fields: object) -> Any:
        product = Product.objects.create(product_class=goods, title=title, **fields)
        product.categories.add(department)
        return product

    put_on_sale(create_product("Enamel Mug"), "12.50", 500)
    put_on_sale(create_product("Wool Blanket"), "89.00", 500)
    put_on_sale(create_product("Brass Compass"), "34.00", 0)
    put_on_sale(create_product("Field Notebook"), "6.90", 3)

    # Variants that are products with pages of their own; the parent's page links those in stock.
    jumper = create_product("Merino Jumper", structure=Product.PARENT)
    for size, in_stock in (("Small", 50), ("Medium", 50), ("Large", 0)):
        child = Product.objects.create(
            structure=Product.CHILD, parent=jumper, title=f"Merino Jumper, {size}"
        )
        put_on_sale(child, "120.00", in_stock)

    # Variants that are fields of the form on one page: a list with a first choice, a required text.
    journal = create_product("Leather Journal")
    put_on_sale(journal, "45.00", 500)
    colours = AttributeOptionGroup.objects.create(name="Leather")
    for colour in ("Tan", "Black"):
        colours.options.create(option=colour)
    cover = Option.objects.create(
        name="Cover", type=Option.SELECT, required=True, option_group=colours, order=1
    )
    initials = Option.objects.create(name="Initials", type=Option.TEXT, required=True, order=2)
    for option in (cover, initials):
        journal.product_options.through.objects.create(product=journal, option=option)
