"""The sites of a voucher purchase: the portal that sells, the page that takes the card with the
bank behind it, and the shop where vouchers are redeemed.

`sites` is what is known of a real site, as data; `states` is what its pages show. `portal`,
`card_page` and `redeemer` are the flows, each a coroutine that first looks where it is and goes on
from there; `sign_in` is what two of them share, `page` (with `page.js`) the page as they see it,
`reading` how its texts are read. When to do what, and never twice, is the caller's.
"""
