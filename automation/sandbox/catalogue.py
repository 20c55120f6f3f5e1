"""What the three shops sell. Prices are whole rupees."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

OptionKind = Literal["select", "buttons", "list", "radios", "text", "tick", "quantities"]


@dataclass(frozen=True, slots=True)
class Option:
    """A choice the customer must make. `kind` is how the page asks for it.

    `list` is hidden until a button is pressed; `tick` is ticked already and its values are yes
    and no; `quantities` has a number field for each value instead of one for the product.
    """

    name: str
    kind: OptionKind
    values: tuple[str, ...] = ()
    preset: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    slug: str
    name: str
    price: int
    category: str
    blurb: str
    facts: tuple[str, ...]
    picture: str
    options: tuple[Option, ...] = ()
    # Choices that cannot be had, though the page lets one make them.
    unavailable: tuple[Mapping[str, str], ...] = ()
    stock: int = 400
    # Said only when an add asks for more.
    max_quantity: int | None = None
    preset_quantity: int = 1
    # Variants with pages of their own: label and slug. A product that is not among its own
    # members is the family page, which sells nothing.
    members: tuple[tuple[str, str], ...] = ()
    was: int | None = None

    @property
    def has_quantity_rows(self) -> bool:
        return any(option.kind == "quantities" for option in self.options)

    @property
    def settles(self) -> bool:
        """Whether AJAX, when the shop has it, decides something after a choice."""
        return any(option.kind not in ("text", "quantities") for option in self.options)

    @property
    def is_family(self) -> bool:
        return bool(self.members) and all(slug != self.slug for _, slug in self.members)

    @property
    def is_quick(self) -> bool:
        """Whether a list page can offer it with a button of its own."""
        return not self.options and not self.members and self.stock > 0

    def sells(self, variant: Mapping[str, str]) -> bool:
        return not any(bad.items() <= variant.items() for bad in self.unavailable)


CORNER = (
    Product(
        "gel-pens",
        "Gel pens 0.5 mm, box of 12",
        480,
        "Writing",
        "A steady line from the first stroke to the last. Quick-drying ink, so left-handers stay "
        "clean, and a rubber grip that survives a day of minutes.",
        ("Line width 0.5 mm", "Dries in two seconds", "Refillable with GR-5 refills"),
        "gel-pens",
        (Option("Colour", "select", ("Black", "Blue", "Red", "Green")),),
        unavailable=({"Colour": "Green"},),
    ),
    Product(
        "highlighters",
        "Highlighters, set of 6",
        320,
        "Writing",
        "Six soft pastels that mark without shouting. Chisel tips draw 1 mm or 5 mm.",
        ("Six colours", "Does not bleed through 70 g paper", "Cap fits the other end"),
        "highlighters",
        was=380,
    ),
    Product(
        "pencil-gift-box",
        "Cedar pencils in a gift box",
        890,
        "Writing",
        "Ten cedar pencils in four grades, sharpened by hand and laid in a card box. A thank-you "
        "that gets used.",
        ("HB, B, 2B and 4B", "FSC certified cedar", "Wrapped in blue paper if you like"),
        "pencil-box",
        (Option("Gift wrap", "tick", ("yes", "no"), preset="yes"),),
    ),
    Product(
        "blue-black-ink",
        "Blue-black ink, 50 ml",
        375,
        "Writing",
        "Goes on blue and dries nearly black. Kind to old pens, and it stays where you put it.",
        ("50 ml glass bottle", "Document-proof", "Made in Pune"),
        "ink",
    ),
    Product(
        "linen-notebook",
        "Linen notebook A5",
        640,
        "Paper",
        "Thread-bound, lies flat on the table and takes fountain-pen ink. 192 numbered pages and "
        "a pocket for receipts at the back.",
        ("192 pages, 100 g", "Thread-bound", "Two ribbons"),
        "notebook",
        (
            Option("Ruling", "buttons", ("Lined", "Dotted", "Squared", "Plain")),
            Option("Cover", "buttons", ("Sand", "Forest", "Ink")),
        ),
        unavailable=({"Ruling": "Dotted", "Cover": "Forest"},),
    ),
    Product(
        "copier-paper",
        "Copier paper A4, 500 sheets",
        345,
        "Paper",
        "Bright white, 80 g, and dry enough not to jam in July. The one paper for printer, copier "
        "and fax.",
        ("80 g/m²", "Whiteness CIE 161", "500 sheets a ream"),
        "copier-paper",
        max_quantity=20,
    ),
    Product(
        "sticky-notes",
        "Sticky notes 76 × 76, 6 pads",
        260,
        "Paper",
        "Sticks to screens, doors and colleagues; comes off without a trace. Six pads of 100.",
        ("Six pads of 100 sheets", "Removable adhesive", "Recycled paper"),
        "sticky-notes",
        (Option("Colour", "select", ("Yellow", "Mint", "Rose"), preset="Yellow"),),
    ),
    Product(
        "envelopes",
        "Self-seal envelopes, pack of 50",
        210,
        "Paper",
        "White, opaque and quick to close. Order several formats at once.",
        ("90 g, grey inside", "Self-seal strip", "With or without window on request"),
        "envelopes",
        (Option("Format", "quantities", ("C6", "DL", "C5", "C4")),),
    ),
    Product(
        "desktop-stapler",
        "Desktop stapler, 30 sheets",
        720,
        "Desk",
        "All metal, opens flat for the notice board, and makes the sound a stapler should make.",
        ("Up to 30 sheets", "Staples 24/6 and 26/6", "Ten-year guarantee"),
        "stapler",
    ),
    Product(
        "steel-scissors",
        "Steel scissors 21 cm",
        410,
        "Desk",
        "Forged blades and a bow for large hands. Cuts card, cord and blister packs.",
        ("21 cm", "Stainless steel", "Right- and left-handed"),
        "scissors",
        max_quantity=5,
    ),
    Product(
        "clear-tape",
        "Clear tape 19 mm, refill roll",
        55,
        "Desk",
        "Tears straight and vanishes on paper. Most offices take six.",
        ("19 mm × 33 m", "Can be written on", "Core of recycled card"),
        "tape",
        preset_quantity=6,
    ),
    Product(
        "drafting-lamp",
        "Drafting lamp, clamp",
        3450,
        "Desk",
        "A long-armed lamp with a warm, even light. Back in spring, in the same green.",
        ("9 W LED, 2,700 K", "Reach 92 cm", "Clamps to 60 mm"),
        "lamp",
        stock=0,
    ),
    Product(
        "hanging-folders",
        "Hanging folders, box of 25",
        990,
        "Filing",
        "Sturdy manila with steel runners and clear tabs. Fits every cabinet with rails.",
        ("230 g manila", "25 tabs and labels", "V-base"),
        "folders",
        (Option("Size", "list", ("A4", "Foolscap", "A3")),),
        unavailable=({"Size": "A3"},),
    ),
    Product(
        "name-badge",
        "Engraved name badge",
        540,
        "Filing",
        "Brushed brass with a magnet, engraved in our workshop behind the counter. Ready in two "
        "days.",
        ("70 × 25 mm", "Strong magnet", "Up to 24 letters"),
        "badge",
        (Option("Engraving", "text"),),
    ),
    Product(
        "archive-box",
        "Archive box, pack of 10",
        1250,
        "Filing",
        "Holds six binders and somebody sitting on it. Folds up in ten seconds without glue.",
        ("Corrugated board", "33 × 26 × 40 cm", "Field for contents and year"),
        "archive-box",
    ),
    Product(
        "wall-planner",
        "Wall planner 2027",
        290,
        "Filing",
        "The whole year on one sheet, with public holidays and room for a plan that changes.",
        ("90 × 60 cm", "Wipe-clean", "Rolled in a tube"),
        "planner",
        stock=3,
    ),
)

GATE = (
    Product(
        "low-keyboard",
        "Low-profile keyboard K2",
        5890,
        "Input",
        "Quiet switches under a milled aluminium deck. Pairs with three machines.",
        ("Hot-swap switches", "Bluetooth and USB-C", "300 hours a charge"),
        "keyboard",
        (Option("Layout", "select", ("US", "UK", "German")),),
    ),
    Product(
        "quiet-mouse",
        "Quiet mouse M1",
        1990,
        "Input",
        "Clicks that nobody in the meeting hears.",
        ("4,000 dpi", "USB-C", "68 g"),
        "mouse",
    ),
    Product(
        "usb-c-hub",
        "USB-C hub, 7 ports",
        3290,
        "Connect",
        "Screen, network, cards and power through one cable.",
        ("HDMI 4K at 60 Hz", "100 W pass-through", "Gigabit Ethernet"),
        "hub",
    ),
    Product(
        "gan-charger",
        "GaN charger 65 W",
        2450,
        "Connect",
        "Charges a laptop and a phone at once and fits in a pocket.",
        ("Two USB-C, one USB-A", "Foldable pins", "Five-year guarantee"),
        "charger",
    ),
    Product(
        "desk-webcam",
        "Desk webcam 1080p",
        4150,
        "Meet",
        "A glass lens and a shutter that really shuts.",
        ("1080p at 60 Hz", "78° view", "Privacy shutter"),
        "webcam",
    ),
    Product(
        "call-headset",
        "Call headset, wired",
        3890,
        "Meet",
        "Your voice without the kitchen behind it.",
        ("Noise-cancelling microphone", "USB-C, 2 m", "Replaceable pads"),
        "headset",
        stock=0,
    ),
)

TAPE = Product(
    "10440-packing-tape",
    "Packing tape 48 mm × 66 m",
    390,
    "Tape",
    "Low-noise tape that holds in the cold. Sold by the six or by the case.",
    ("Polypropylene, 28 µm", "Solvent glue", "Brown"),
    "packing-tape",
    members=(
        ("Pack of 6", "10441-packing-tape-6-rolls"),
        ("Case of 36", "10442-packing-tape-36-rolls"),
    ),
)

DEPOT = (
    Product(
        "10231-double-wall-box",
        "Double wall box, bundle of 15",
        1180,
        "Boxes",
        "Five-ply board for goods up to 30 kg.",
        ("Flat packed", "Tested to ECT 7.1", "90% recycled"),
        "box",
        (Option("Size", "list", ("300 mm", "450 mm", "600 mm")),),
    ),
    Product(
        "10244-mailer-box",
        "Mailer box, bundle of 50",
        960,
        "Boxes",
        "Folds without tape, opens without a knife.",
        ("E-flute", "Locking tabs", "Kraft inside and out"),
        "mailer",
    ),
    TAPE,
    replace(TAPE, slug="10441-packing-tape-6-rolls", name="Packing tape, 6 rolls"),
    replace(TAPE, slug="10442-packing-tape-36-rolls", name="Packing tape, 36 rolls", price=2120),
    Product(
        "10450-tape-gun",
        "Tape gun, steel",
        640,
        "Tape",
        "Brake, blade guard and a handle for gloves.",
        ("For 48–50 mm tape", "Steel frame", "Spare blade"),
        "tape-gun",
        stock=0,
    ),
    Product(
        "10610-stretch-film",
        "Stretch film 500 mm × 300 m",
        520,
        "Pallets",
        "Clear hand film, six rolls keep a pallet lane going for a week.",
        ("17 µm", "150% stretch", "Core 50 mm"),
        "film",
        max_quantity=24,
    ),
    Product(
        "10633-hand-truck",
        "Hand truck 250 kg",
        6980,
        "Pallets",
        "Puncture-proof tyres and a folding toe plate.",
        ("250 kg", "260 mm wheels", "14 kg"),
        "hand-truck",
    ),
    Product(
        "10702-work-gloves",
        "Work gloves, 12 pairs",
        1140,
        "Safety",
        "Thin enough to pick a label, tough enough for strapping.",
        ("EN 388 4131X", "Nitrile palm", "Touchscreen finger"),
        "gloves",
        (Option("Glove size", "radios", ("8", "9", "10")),),
        unavailable=({"Glove size": "8"},),
    ),
)
