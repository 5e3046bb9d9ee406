"""Events as a shop would send them: varied, repeatable, and about as compressible as real ones.

Neither constant events (which compress to nothing) nor random bytes (which do not compress) say
anything about a gateway whose main cost is moving and compressing text.
"""

from __future__ import annotations

import json
import random
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MEAN_BYTES = 283
"""The mean size of an event, in bytes of JSON."""

CUSTOMERS = 50_000
"""How many customers there are; a few of them order often."""

CITIES = (
    "Berlin", "Hamburg", "München", "Köln", "Zürich", "Genève", "Paris", "Lyon", "Málaga", "Madrid",
    "Łódź", "Kraków", "København", "Malmö", "Tromsø", "Praha", "São Paulo", "Bogotá", "İstanbul",
    "Αθήνα", "Київ", "東京", "大阪", "Springfield", "Stoke-on-Trent",
)  # fmt: skip
PRODUCTS = (
    "mug", "lamp", "chair", "shelf", "pillow", "blanket", "kettle", "notebook", "pen", "poster",
    "bottle", "backpack", "candle", "clock", "mirror", "vase", "basket", "tray", "rug", "stool",
)  # fmt: skip
COLOURS = ("black", "white", "red", "oak", "sand", "navy", "forest", "grey")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_2)",
    "Mozilla/5.0 (Windows NT 10.0; Win64)",
    "shop-app/7.14 Android/15",
    "okhttp/4.12.0",
)
WORDS = (
    "please", "ring", "twice", "leave", "it", "with", "the", "neighbour", "gift", "wrap", "no",
    "invoice", "thanks", "fragile", "call", "before", "deliver", "after", "six", "back", "door",
    "für", "Grüße", "merci", "à", "bientôt", "ありがとう", "🎁", "mañana",
)  # fmt: skip
CHANNELS = ("web", "app", "store", "phone")
CURRENCIES = ("EUR", "EUR", "EUR", "USD", "GBP", "CHF")


def orders(seed: int) -> Iterator[dict[str, Any]]:
    """Endless orders; the same ``seed`` gives the same ones."""
    chance = random.Random(seed)
    while True:
        yield _order(chance)


def events(seed: int) -> Iterator[bytes]:
    """The same orders as compact UTF-8 JSON, about `MEAN_BYTES` each."""
    for order in orders(seed):
        yield encode(order)


def encode(event: dict[str, Any]) -> bytes:
    """``event`` as compact UTF-8 JSON."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def batch(source: Iterator[bytes], size: int) -> bytes:
    """The next ``size`` events as a JSON array; one event for a size of 1."""
    chosen = list(islice(source, size))
    return chosen[0] if size == 1 else b"[" + b",".join(chosen) + b"]"


def _order(chance: random.Random) -> dict[str, Any]:
    order: dict[str, Any] = {}
    if chance.random() < 0.4:
        order["event_id"] = f"{chance.getrandbits(64):016x}"
    items = [_item(chance) for _ in range(chance.choice((1, 1, 1, 2)))]
    order["customer_id"] = _customer(chance)
    order["placed"] = _moment(chance)
    order["items"] = items
    order["total"] = round(sum(item["quantity"] * item["price"] for item in items), 2)
    order["currency"] = chance.choice(CURRENCIES)
    order["paid"] = chance.random() < 0.8
    order["client"] = _client(chance)
    if chance.random() < 0.2:
        order["note"] = " ".join(chance.choices(WORDS, k=chance.randint(2, 12)))
    return order


def _customer(chance: random.Random) -> str:
    return f"c-{int(CUSTOMERS * chance.random() ** 3):06d}"


def _moment(chance: random.Random) -> str:
    hour, minute, second = chance.randrange(24), chance.randrange(60), chance.randrange(60)
    return f"2026-11-{chance.randint(1, 30):02d}T{hour:02d}:{minute:02d}:{second:02d}Z"


def _item(chance: random.Random) -> dict[str, Any]:
    product = chance.choice(PRODUCTS)
    return {
        "sku": f"{product}-{chance.choice(COLOURS)}-{chance.randrange(100):02d}",
        "quantity": chance.choice((1, 1, 1, 2, 3, 12)),
        "price": round(chance.lognormvariate(3, 1), 2),
    }


def _client(chance: random.Random) -> dict[str, Any]:
    return {
        "channel": chance.choice(CHANNELS),
        "city": chance.choice(CITIES),
        "agent": chance.choice(AGENTS),
    }
