"""The tables that come with the project: one of scikit-learn's, and one drawn by a seeded generator of ours."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROWS, SEED = 1_500, 0
PRODUCTS = {  # sub-category -> category, median price in dollars, margin without discount
    "Chairs": ("Furniture", 190.0, 0.16),
    "Tables": ("Furniture", 380.0, 0.10),
    "Bookcases": ("Furniture", 240.0, 0.12),
    "Furnishings": ("Furniture", 35.0, 0.30),
    "Paper": ("Office Supplies", 20.0, 0.46),
    "Binders": ("Office Supplies", 25.0, 0.45),
    "Storage": ("Office Supplies", 90.0, 0.12),
    "Art": ("Office Supplies", 12.0, 0.28),
    "Phones": ("Technology", 180.0, 0.25),
    "Accessories": ("Technology", 70.0, 0.27),
    "Machines": ("Technology", 600.0, 0.28),
}
STATES = {  # state -> region, city, postal code, usual discount
    "California": ("West", "Los Angeles", "90008", 0.0),
    "Washington": ("West", "Seattle", "98103", 0.0),
    "New York": ("East", "New York City", "10024", 0.0),
    "Pennsylvania": ("East", "Philadelphia", "19140", 0.3),
    "Texas": ("Central", "Houston", "77095", 0.3),
    "Illinois": ("Central", "Chicago", "60610", 0.3),
    "Florida": ("South", "Miami", "33180", 0.2),
    "Georgia": ("South", "Atlanta", "30318", 0.0),
}
DISCOUNTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
SHIPPING = {"Same Day": (0, 1), "First Class": (1, 4), "Second Class": (2, 6), "Standard Class": (4, 8)}  # days


def breast_cancer() -> "pd.DataFrame":
    """569 rows, 30 measurements and the diagnosis, as scikit-learn carries them."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.data.copy()
    frame["diagnosis"] = [str(bunch.target_names[answer]) for answer in bunch.target]
    return frame


def superstore() -> "pd.DataFrame":
    """1,500 invented order lines in the columns of the Superstore table, as text, the way a CSV has them.

    Prices, margins and discounts are drawn so that profit depends on discount and product as it does in the real one.
    """
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(SEED)
    state, product = _drawn(draw, list(STATES)), _drawn(draw, list(PRODUCTS))
    mode = _drawn(draw, list(SHIPPING), [0.05, 0.15, 0.2, 0.6])
    ordered = pd.Timestamp("2016-01-02") + pd.to_timedelta(np.sort(draw.integers(0, 1_400, ROWS)), unit="D")
    shipped = ordered + pd.to_timedelta([int(draw.integers(*SHIPPING[each])) for each in mode], unit="D")
    quantity, customer = draw.integers(1, 10, ROWS), draw.integers(0, 200, ROWS)
    discount = _discounts(draw, state)
    price = np.array([PRODUCTS[each][1] for each in product]) * np.exp(draw.normal(0, 0.7, ROWS))
    sales = np.round(price * quantity * (1 - discount), 2)
    margin = np.array([PRODUCTS[each][2] for each in product]) + draw.normal(0, 0.05, ROWS)
    profit = np.round(price * quantity * (margin - discount), 4)
    code = [f"{PRODUCTS[each][0][:3].upper()}-{each[:2].upper()}-{i:08}" for i, each in enumerate(product)]
    return pd.DataFrame(
        {
            "Row ID": np.arange(1, ROWS + 1).astype(str),
            "Order ID": [f"EX-{day.year}-{100_000 + i}" for i, day in enumerate(ordered)],
            "Order Date": _us_dates(ordered),
            "Ship Date": _us_dates(shipped),
            "Ship Mode": mode,
            "Customer ID": [f"EX-{10_000 + each}" for each in customer],
            "Customer Name": [f"Customer {each}" for each in customer],
            "Segment": _drawn(draw, ["Consumer", "Corporate", "Home Office"], [0.5, 0.3, 0.2]),
            "Country": "United States",
            "City": [STATES[each][1] for each in state],
            "State": state,
            "Postal Code": [STATES[each][2] for each in state],
            "Region": [STATES[each][0] for each in state],
            "Product ID": code,
            "Category": [PRODUCTS[each][0] for each in product],
            "Sub-Category": product,
            "Product Name": [f"Invented {each}" for each in product],
            "Sales": sales.astype(str),
            "Quantity": quantity.astype(str),
            "Discount": discount.astype(str),
            "Profit": profit.astype(str),
        }
    )


def _drawn(draw: "np.random.Generator", names: list[str], shares: Sequence[float] | None = None) -> list[str]:
    return [names[i] for i in draw.choice(len(names), ROWS, p=shares)]


def _discounts(draw: "np.random.Generator", states: list[str]) -> "np.ndarray":
    """Mostly what is usual in the state, else any of those that are given."""
    import numpy as np

    usual = np.array([STATES[state][3] for state in states])
    return np.where(draw.random(ROWS) < 0.7, usual, draw.choice(DISCOUNTS, ROWS))


def _us_dates(days: "pd.DatetimeIndex") -> list[str]:
    """Month/day/year without leading zeros."""
    return [f"{day.month}/{day.day}/{day.year}" for day in days]
