"""A user's first hour in Python with pandas: from a table to a model that is asked, kept, copied and compared."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from hardgnn import Dataset, HardGNN, compare

pd = pytest.importorskip("pandas")


def shop(customers: int = 120, products: int = 40, purchases: int = 12) -> pd.DataFrame:
    """Everybody goes round the shelves in one order, and sometimes jumps: what comes next can be learnt."""
    rng = np.random.default_rng(0)
    jumps = rng.random((customers, purchases)) < 0.15
    steps = np.where(jumps, rng.integers(1, products, (customers, purchases)), 1)
    product = (rng.integers(0, products, (customers, 1)) + steps.cumsum(axis=1)) % products
    days = rng.integers(1, 5, (customers, purchases)).cumsum(axis=1)
    return pd.DataFrame(
        {
            "customer": np.repeat(np.arange(1000, 1000 + customers), purchases),
            "sku": [f"sku-{one}" for one in product.ravel()],
            "bought_at": pd.Timestamp("2025-01-01") + pd.to_timedelta(days.ravel(), unit="D"),
        }
    ).sample(frac=1, random_state=0)


@pytest.mark.filterwarnings("ignore:.*sampled negatives", "ignore:.*times")
def test_a_first_hour_with_pandas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    df = shop()

    # A table is all it takes. A few epochs will do for now.
    model = HardGNN(output="pandas", train={"epochs": 6, "patience": 0}, model={"dim": 16})
    model.fit(df, user="customer", item="sku", time="bought_at")
    assert "1,440 interactions read" in capsys.readouterr().err

    # How good is it? And what does it recommend to these customers?
    found = model.evaluate()
    assert found["metrics"]["ndcg@10"] > 0.3  # by chance it would be .1
    best = model.recommend(df["customer"].head(3), n=5)
    assert list(best.columns) == ["user", "item", "score", "rank", "source"]
    assert best["user"].dtype == df["customer"].dtype
    assert len(best.merge(df[["customer"]].drop_duplicates(), left_on="user", right_on="customer")) == len(best)

    # Somebody new, who has just bought two things; why; and what goes with what.
    new = model.recommend(items=["sku-3", "sku-4"], n=3)
    assert "sku-5" in set(new["item"])
    why = model.explain(items=["sku-3", "sku-4"], n=1)
    assert set(why.because["reason"]) == {"sku-3", "sku-4"}
    assert len(model.similar_items("sku-7", n=4)) == 4
    past = model.history(1000)
    bought = df[df["customer"] == 1000].sort_values("bought_at")
    assert past["item"].tolist() == bought["sku"].drop_duplicates().tolist()
    assert past["time"].dt.tz_localize(None).iloc[0] == bought["bought_at"].iloc[0]

    # New purchases count at once, without training.
    since = pd.DataFrame({"user": [1000, 1000], "item": ["sku-9", "sku-10"]})
    assert not model.recommend(1000, events=since).equals(model.recommend(1000))

    # It is kept and read again, by any command too; it goes to other processes whole.
    model.save(tmp_path / "run")
    again = HardGNN.load(tmp_path / "run", output="pandas")
    copied = pickle.loads(pickle.dumps(again))
    for other in (again, copied):
        assert other.recommend(1000).equals(model.recommend(1000))
        assert other.evaluate(df)["metrics"] == found["metrics"]

    # Is it better than what takes a second? Both on the same customers, with tests.
    data = Dataset.from_frame(df, user="customer", item="sku", time="bought_at")
    simple = HardGNN("popularity").fit(data)
    beside = compare({"best": model, "popularity": simple}, data)
    assert beside.metrics.set_index("model")["ndcg@10"].idxmax() == "best"
    assert (beside.differences["permutation_p_holm"] < 0.05).all()

    # In the end it learns from validation too.
    final = model.refit()
    assert final.recommend(1000, n=3)["item"].nunique() == 3


@pytest.mark.filterwarnings("ignore:.*sampled negatives", "ignore:.*times")
def test_columns_of_pandas_in_every_type_are_the_same_log() -> None:
    df = shop(customers=40)
    forms = [
        df,
        df.astype({"sku": "category", "customer": "Int64"}),
        df.astype({"sku": "string", "customer": "float64"}),
        df.assign(bought_at=df["bought_at"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        df.assign(bought_at=df["bought_at"].astype(str), sku=df["sku"].astype(object)),
        df.set_index(df["sku"]).assign(bought_at=df["bought_at"].astype(object).tolist()),
    ]
    read = [Dataset.read(one, user_col="customer", item_col="sku", time_col="bought_at") for one in forms]
    assert len({one.sha256 for one in read}) == 1
    with pytest.raises(Exception, match="row 3: the item id is empty; drop_missing=True drops such rows"):
        Dataset.read(
            df.assign(sku=df["sku"].where(np.arange(len(df)) != 2)),
            user_col="customer",
            time_col="bought_at",
            item_col="sku",
        )
