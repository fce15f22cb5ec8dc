"""Small data with the columns and arrays that the configs of the benchmark data sets read.

In:  the name of a data set, and an empty folder.
Out: train and test files of 90 and 20 rows in it, drawn from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

N_TRAIN, N_TEST = 90, 20
N_ROWS = N_TRAIN + N_TEST
Arrays = dict[str, np.ndarray]


def write_data(name: str, folder: Path) -> None:
    """Write the files of a data set, without the target in the test file."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sum(name.encode()))
    made, target = DATA_SETS[name]
    values = made(rng)
    if isinstance(values, pd.DataFrame):
        values.insert(0, "id", np.arange(N_ROWS) + 1000)
        values[:N_TRAIN].to_csv(folder / "train.csv", index=False)
        values[N_TRAIN:].drop(columns=target).to_csv(folder / "test.csv", index=False)
        return
    values["id"] = np.arange(N_ROWS) + 1000
    np.savez(folder / "train.npz", **{key: array[:N_TRAIN] for key, array in values.items()})
    test = {key: array[N_TRAIN:] for key, array in values.items() if key != target}
    np.savez(folder / "test.npz", **test)


def holes(rng: np.random.Generator, values: np.ndarray, share: float) -> pd.Series:
    """Return a column with some cells empty."""
    return pd.Series(values).mask(rng.random(len(values)) < share)


def labels(rng: np.random.Generator, signal: np.ndarray, n_classes: int) -> np.ndarray:
    """Return codes of classes of equal size that follow a signal."""
    ranks = np.argsort(np.argsort(signal + 0.3 * rng.normal(size=len(signal))))
    return ranks * n_classes // len(signal)


def adult(rng: np.random.Generator) -> pd.DataFrame:
    age, hours = rng.integers(17, 80, N_ROWS), rng.integers(10, 70, N_ROWS)
    education = rng.choice(["Bachelors", "HS-grad", "Masters", "Some-college"], N_ROWS)
    signal = 0.05 * age + 0.06 * hours + 2.0 * (education == "Masters") + rng.normal(size=N_ROWS)
    return pd.DataFrame(
        {
            "age": age,
            "workclass": holes(rng, rng.choice(["Private", "State-gov", "Self-emp-inc"], N_ROWS), 0.1),
            "fnlwgt": rng.integers(20_000, 400_000, N_ROWS),
            "education": education,
            "marital_status": rng.choice(["Never-married", "Divorced", "Widowed"], N_ROWS),
            "occupation": holes(rng, rng.choice(["Sales", "Tech-support", "Craft-repair"], N_ROWS), 0.1),
            "sex": rng.choice(["Male", "Female"], N_ROWS),
            "capital_gain": rng.choice([0, 0, 0, 1741, 7688], N_ROWS),
            "hours_per_week": hours,
            "income": np.where(signal > np.quantile(signal, 0.7), ">50K", "<=50K"),
        }
    )


def bike_sharing(rng: np.random.Generator) -> pd.DataFrame:
    days = pd.date_range("2011-01-01", periods=N_ROWS // 2)
    hour = np.tile([8, 17], N_ROWS // 2)
    temperature = (0.5 + 0.4 * np.sin(np.arange(N_ROWS) / 20) + 0.05 * rng.normal(size=N_ROWS)).round(3)
    return pd.DataFrame(
        {
            "dteday": np.repeat(days.strftime("%Y-%m-%d"), 2),
            "season": np.repeat(days.quarter, 2),
            "hr": hour,
            "holiday": (rng.random(N_ROWS) < 0.1).astype(int),
            "weekday": np.repeat(days.dayofweek, 2),
            "weathersit": rng.integers(1, 4, N_ROWS),
            "temp": temperature,
            "hum": rng.random(N_ROWS).round(2),
            "cnt": np.round(100 * temperature + 5 * hour + 20 * rng.random(N_ROWS)).astype(int),
        }
    )


def california(rng: np.random.Generator) -> pd.DataFrame:
    income, place = (
        rng.gamma(3, 1.2, N_ROWS).round(4),
        rng.choice(["INLAND", "NEAR BAY", "<1H OCEAN"], N_ROWS),
    )
    rooms = rng.integers(200, 6000, N_ROWS).astype(float)
    return pd.DataFrame(
        {
            "longitude": rng.uniform(-124, -114, N_ROWS).round(2),
            "latitude": rng.uniform(32, 42, N_ROWS).round(2),
            "housing_median_age": rng.integers(1, 53, N_ROWS).astype(float),
            "total_rooms": rooms,
            "total_bedrooms": holes(rng, (rooms / 5).round(), 0.05),
            "median_income": income,
            "ocean_proximity": place,
            "median_house_value": (
                4e4 * income + 5e4 * (place != "INLAND") + 2e4 * rng.normal(size=N_ROWS) + 6e4
            ).round(),
        }
    )


def titanic(rng: np.random.Generator) -> pd.DataFrame:
    sex, cabin = rng.choice(["male", "female"], N_ROWS), rng.integers(1, 4, N_ROWS)
    signal = 1.5 * (sex == "female") - 0.7 * cabin + rng.normal(size=N_ROWS)
    return pd.DataFrame(
        {
            "PassengerId": np.arange(N_ROWS) + 1,
            "Pclass": cabin,
            "Name": [f"Passenger {i}, of room {j}" for i, j in enumerate(rng.integers(0, 999, N_ROWS))],
            "Sex": sex,
            "Age": holes(rng, rng.integers(1, 70, N_ROWS).astype(float), 0.2),
            "SibSp": rng.integers(0, 3, N_ROWS),
            "Ticket": [f"A {i}" for i in rng.integers(0, 9999, N_ROWS)],
            "Fare": rng.gamma(2, 15, N_ROWS).round(4),
            "Cabin": holes(rng, rng.choice(["C1", "D7"], N_ROWS), 0.8),
            "Embarked": holes(rng, rng.choice(["S", "C", "Q"], N_ROWS), 0.02),
            "Survived": (signal > np.median(signal)).astype(int),
        }
    )


def letter(rng: np.random.Generator) -> pd.DataFrame:
    codes = np.arange(N_ROWS) % 5
    centres = rng.integers(2, 14, size=(5, 16))
    cells = np.clip(centres[codes] + rng.integers(-2, 3, size=(N_ROWS, 16)), 0, 15)
    frame = pd.DataFrame(cells, columns=[f"x{i}" for i in range(16)])
    return frame.assign(**{"class": np.array(list("ABCDE"))[codes]})


def images(rng: np.random.Generator, shape: tuple[int, ...], n_classes: int) -> Arrays:
    y = rng.permutation(np.arange(N_ROWS) % n_classes)
    patterns = rng.integers(0, 160, size=(n_classes, *shape))
    noise = rng.integers(0, 96, size=(N_ROWS, *shape))
    return {"X": (patterns[y] + noise).astype(np.uint8), "y": y}


def japanese_vowels(rng: np.random.Generator) -> Arrays:
    y, length = rng.permutation(np.arange(N_ROWS) % 4), rng.integers(5, 13, N_ROWS)
    X = rng.normal(size=(N_ROWS, 12, 6)) + 0.5 * rng.normal(size=(4, 1, 6))[y]
    X[np.arange(12)[None, :] >= length[:, None]] = 0
    return {"X": X.astype(np.float32), "length": length.astype(np.int32), "y": y}


def mfeat_multiview(rng: np.random.Generator) -> Arrays:
    y = rng.permutation(np.arange(N_ROWS) % 5)
    widths = {"x_pix": 12, "x_fou": 8, "x_fac": 10, "x_zer": 6, "x_kar": 7, "x_mor": 4}
    found: Arrays = {"y": y}
    for name, width in widths.items():
        values = rng.normal(size=(5, width))[y] + rng.normal(size=(N_ROWS, width))
        found[name] = values.astype(np.float32)
    found["x_pix"] = np.clip(3 * found["x_pix"] + 8, 0, 15).astype(np.uint8)
    found["x_fac"] = np.clip(50 * found["x_fac"] + 500, 0, 2000).astype(np.uint16)
    return found


def uci_har(rng: np.random.Generator) -> Arrays:
    y = rng.permutation(np.arange(N_ROWS) % 3)
    X = rng.normal(size=(N_ROWS, 32, 9)) + rng.normal(size=(3, 1, 9))[y]
    statistics = np.hstack([X.mean(axis=1), X.std(axis=1)]).astype(np.float32)
    subject = rng.integers(0, 6, N_ROWS).astype(np.int16)
    return {"X": X.astype(np.float16), "statistics": statistics, "subject": subject, "y": y}


def taxi_fares(rng: np.random.Generator) -> pd.DataFrame:
    distance = rng.gamma(1.5, 2.0, N_ROWS).round(2)
    hour = rng.integers(0, 24, N_ROWS)
    spread = (0.3 + 0.2 * distance) * rng.normal(size=N_ROWS)
    return pd.DataFrame(
        {
            "weekday": rng.integers(0, 7, N_ROWS),
            "hour": hour,
            "distance": distance,
            "payment": rng.choice(["cash", "credit card"], N_ROWS),
            "pickup_zone": rng.choice([f"zone {number}" for number in range(12)], N_ROWS),
            "fare": (3 + 2.5 * distance + 0.5 * (hour > 16) + spread).clip(2.5).round(1),
        }
    )


def lightgbm_rank(rng: np.random.Generator) -> pd.DataFrame:
    values = rng.normal(size=(N_ROWS, 6)).round(4)
    relevance = labels(rng, values[:, 0] - values[:, 1], 5)
    frame = pd.DataFrame(values, columns=[f"f{i}" for i in range(6)])
    # Ten rows a query, none of which is in both files.
    return frame.assign(query=np.arange(N_ROWS) // 10, relevance=relevance)


def clothing_reviews(rng: np.random.Generator) -> pd.DataFrame:
    stars = rng.permutation(np.arange(N_ROWS) % 5) + 1
    words = {1: "awful cheap torn", 2: "poor thin", 3: "fine plain", 4: "nice soft", 5: "lovely perfect warm"}
    filler = ["dress", "shirt", "size", "colour", "bought", "for", "the", "summer", "sleeves"]
    texts = [" ".join([*rng.choice(filler, 8), *rng.choice(words[star].split(), 2)]) for star in stars]
    return pd.DataFrame(
        {
            "clothing_id": rng.integers(800, 810, N_ROWS),
            "age": rng.integers(18, 90, N_ROWS),
            "title": holes(rng, np.array([text.rpartition(" ")[2] for text in texts], dtype=object), 0.3),
            "review_text": texts,
            "positive_feedback_count": rng.integers(0, 30, N_ROWS),
            "division": rng.choice(["General", "Petite"], N_ROWS),
            "rating": stars,
        }
    )


def student_grades(rng: np.random.Generator) -> pd.DataFrame:
    failures, study = rng.integers(0, 4, N_ROWS), rng.integers(1, 5, N_ROWS)
    able = 11 - 1.5 * failures + study + 2 * rng.normal(size=N_ROWS)
    grades = {f"G{period}": (able + rng.normal(size=N_ROWS)).round().clip(0, 20) for period in (1, 2, 3)}
    return pd.DataFrame(
        {
            "student": rng.integers(0, 70, N_ROWS),
            "course": rng.choice(["mat", "por"], N_ROWS),
            "reason": rng.choice(["home", "course", "reputation", "other"], N_ROWS),
            "studytime": study,
            "failures": failures,
            "absences": rng.integers(0, 40, N_ROWS),
            **grades,
        }
    )


def yeast(rng: np.random.Generator) -> pd.DataFrame:
    values = rng.normal(size=(N_ROWS, 8)).round(4)
    signal = values @ rng.normal(size=(8, 14)) + rng.normal(size=(N_ROWS, 14))
    frame = pd.DataFrame(values, columns=[f"Att{i + 1}" for i in range(8)])
    has = (signal > np.quantile(signal, np.linspace(0.3, 0.9, 14), axis=0).diagonal()).astype(int)
    return frame.assign(**{f"Class{i + 1}": has[:, i] for i in range(14)})


DATA_SETS: dict[str, tuple[Callable[[np.random.Generator], pd.DataFrame | Arrays], str | list[str]]] = {
    "adult": (adult, "income"),
    "bike_sharing": (bike_sharing, "cnt"),
    "california_housing": (california, "median_house_value"),
    "clothing_reviews": (clothing_reviews, "rating"),
    "fashion_mnist": (lambda rng: images(rng, (16, 16), 4), "y"),
    "japanese_vowels": (japanese_vowels, "y"),
    "letter": (letter, "class"),
    "lightgbm_rank": (lightgbm_rank, "relevance"),
    "mfeat_multiview": (mfeat_multiview, "y"),
    "sign_digits": (lambda rng: images(rng, (20, 20, 3), 4), "y"),
    "student_grades": (student_grades, ["G1", "G2", "G3"]),
    "taxi_fares": (taxi_fares, "fare"),
    "titanic": (titanic, "Survived"),
    "uci_har": (uci_har, "y"),
    "yeast": (yeast, [f"Class{i + 1}" for i in range(14)]),
}
