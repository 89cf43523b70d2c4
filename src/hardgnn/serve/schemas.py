"""What requests may hold and what answers hold; the OpenAPI document is made of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_ITEMS = 1000  # recommended at most, and listed as recent at most
MOST_FILTERED = 10_000
ID = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=MOST_ITEMS, description="How many.")]


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="One sentence.")
    request_id: str


class Item(BaseModel):
    """An item of the run."""

    item: str = Field(description="Raw id.")
    title: str | None = None


class Similar(Item):
    """An item near another one."""

    similarity: float = Field(
        description="Cosine of two item vectors; of others (neighbours, EASE) what one adds to the other's score."
    )


class Seen(Item):
    """An item of a user's history."""

    time: float | None = Field(description="Seconds since 1970.")
    interval: int | None = Field(description="The model's time interval, from 1.")


class Attended(Item):
    """An item of the window."""

    weight: float = Field(description="Attention of the last layer; the window's weights sum to 1.")


class Recommended(Item):
    """One recommendation."""

    score: float = Field(
        description="What the model ranks by; its own, or, where nothing is known, the training interactions."
    )
    rank: int = Field(description="From 1.")
    because: list[Similar] | None = Field(None, description="The nearest items of the history, if asked for.")


class Recommendations(BaseModel):
    """Recommendations and what they are made of."""

    user: str | None
    known_user: bool = Field(description="Whether the run has the user's history.")
    source: str = Field(description="user+sequence, user, sequence or popularity: what the scores are made of.")
    meaning: str = Field(description="What that source means of this model and this user, in words.")
    approximate: bool = Field(description="Whether an index was searched instead of all items.")
    items: list[Recommended]
    attention: list[Attended] | None = Field(None, description="What the model looks at, oldest first, if asked for.")
    skipped_items: list[str] = Field(description="Items of the request that the run does not know.")
    run: str
    version: str = Field(description="Of the weights.")


class Wanted(BaseModel):
    """What is known of somebody, and what may be recommended."""

    model_config = ConfigDict(extra="forbid")

    user: ID | None = Field(None, description="Raw id; its history counts where the run knows it.")
    items: list[ID] = Field([], max_length=MOST_ITEMS, description="Newer items, oldest first.")
    n: Count = 10
    exclude_seen: bool = Field(True, description="Nothing of the history, new items included.")
    allow: list[ID] | None = Field(None, max_length=MOST_FILTERED, description="The only items to recommend.")
    block: list[ID] = Field([], max_length=MOST_FILTERED, description="Items never to recommend.")
    explain: bool = Field(False, description="Nearest history items of each recommendation, and attention.")


class Users(BaseModel):
    """Ids of users."""

    users: list[str]


class ExampleUser(BaseModel):
    """A user to look at first."""

    user: str
    interactions: int = Field(description="Length of the whole history.")


class Examples(BaseModel):
    """Users to look at first, the least active first."""

    users: list[ExampleUser]


class Items(BaseModel):
    """Items found."""

    items: list[Item]


class SimilarItems(BaseModel):
    """Items near another one."""

    item: Item
    similar: list[Similar]


class History(BaseModel):
    """A user as the run knows them."""

    user: str
    trained: bool = Field(description="Whether the user has a vector of their own.")
    interactions: int = Field(description="Length of the whole history.")
    intervals: int = Field(description="Time intervals of the model.")
    history: list[Seen] = Field(description="The last items, oldest first.")


class Health(BaseModel):
    """The run that is served."""

    status: str
    run: str
    version: str
    users: int
    items: int
    approximate: bool
    reload_error: str | None = Field(description="Why the last new run is not served.")


class Ready(BaseModel):
    """Whether requests may be sent here."""

    ready: bool
    status: str = Field(description="starting, ready, reloading (the run before is served meanwhile) or draining.")
    run: str
    version: str


class Reloading(BaseModel):
    """A reload has begun; /readyz?settled=true tells its end."""

    status: str
    version: str
