import weakref
from pathlib import Path

import pytest

from noisevote.model_store.manifest import Manifest, PrecisionChoice, Variant
from noisevote.model_store.store import ModelStore
from noisevote.service.errors import InvalidValueError, PolicyError
from noisevote.service.models.registry import ServedVersion, session_key
from noisevote.service.prediction.options import PredictionRequest, VoteOptions
from noisevote.service.prediction.policy import Policy
from noisevote.service.prediction.prepare import chosen_variant
from noisevote.service.scheduling.batch_size import BatchProfile
from tests.support.engines import FakeEngine
from tests.support.graphs import SHAPE
from tests.support.manifests import manifest, point, variant
from tests.support.serving import serve

# mul-0.9 is best with noise, mul-0.5 next, and better than its twin is measured to be; mul-0.0 has no twin.
BEST, NEXT, CLEAN = (
    variant("mul-0.9", accuracy=[point(0.0, 0.7), point(1.0, 0.9)]),
    variant("mul-0.5", accuracy=[point(0.0, 0.8), point(1.0, 0.8)]),
    variant("mul-0.0", accuracy=[point(0.0, 0.9), point(1.0, 0.1)]),
)
BEST_8, NEXT_8 = (
    variant("mul-0.9-int8", precision="int8", twin="mul-0.9", accuracy=[point(0.0, 1.0), point(1.0, 1.0)]),
    variant("mul-0.5-int8", precision="int8", twin="mul-0.5", accuracy=[point(0.0, 0.1), point(1.0, 0.1)]),
)
ALL = (BEST, NEXT, CLEAN, BEST_8, NEXT_8)


NEWER_8 = variant(
    "mul-0.9-int8-op2",
    precision="int8",
    twin="mul-0.9",
    operator_version=2,
    accuracy=[point(0.0, 1.0), point(1.0, 1.0)],
)


def served(variants: tuple[Variant, ...] = ALL, seconds: dict[str, float] | None = None) -> ServedVersion:
    """A version whose variants take these seconds a vote, 1 where nothing is said."""
    described = manifest({}, variants=(*ALL, NEWER_8))
    profiles = {
        session_key(described, each): BatchProfile(4, (seconds or {}).get(each.name, 1.0), ()) for each in variants
    }
    return ServedVersion(described, variants, {}, profiles)


def chosen(
    version: ServedVersion,
    name: str = "auto",
    precision: PrecisionChoice | None = None,
    usual: PrecisionChoice = "float32",
    sigma: float = 1.0,
) -> str:
    """Name of the variant that a request gets."""
    return chosen_variant(version, VoteOptions(sigma=sigma, variant=name, precision=precision), usual).name


def test_auto_goes_on_choosing_by_float32_accuracy() -> None:
    """However accurate a twin's own table says it is, float32 is the default, and int8 replaces what was chosen."""
    assert chosen(served()) == chosen(served(), precision="float32") == "mul-0.9"
    assert chosen(served(), precision="int8") == "mul-0.9-int8"
    assert chosen(served(), precision="int8", sigma=0.0) == "mul-0.5-int8"  # of those that have a twin
    assert chosen(served(), sigma=0.0) == "mul-0.0"


def test_the_servers_setting_is_for_auto_alone() -> None:
    """A named variant is what its name says; a request's own precision comes before the setting."""
    assert chosen(served(), usual="int8") == "mul-0.9-int8"
    assert chosen(served(), "mul-0.5", usual="int8") == "mul-0.5"
    assert chosen(served(), precision="float32", usual="int8") == "mul-0.9"


def test_a_named_variant_is_computed_as_asked() -> None:
    """Either name of a pair stands for the pair where a precision is given."""
    assert chosen(served(), "mul-0.5", "int8") == chosen(served(), "mul-0.5-int8", "int8") == "mul-0.5-int8"
    assert chosen(served(), "mul-0.5-int8", "float32") == "mul-0.5"
    assert chosen(served(), "mul-0.5-int8") == "mul-0.5-int8"


def test_of_two_twins_the_newer_draws_are_taken() -> None:
    """The older one is there by its name, so that its answers can be repeated."""
    both = served((*ALL, NEWER_8), seconds={"mul-0.9-int8": 0.4, "mul-0.9-int8-op2": 0.5})
    assert chosen(both, precision="int8") == chosen(both, precision="any") == "mul-0.9-int8-op2"
    assert chosen(both, "mul-0.9", "int8") == "mul-0.9-int8-op2"
    assert chosen(both, "mul-0.9-int8", "int8") == chosen(both, "mul-0.9-int8") == "mul-0.9-int8"
    assert chosen(both, "mul-0.9-int8-op2", "float32") == "mul-0.9"


def test_any_is_what_is_measured_to_be_faster_here() -> None:
    """Of the same pair: where int8 is slower, or the best variant has no twin, float32 stays."""
    fast = served(seconds={"mul-0.9-int8": 0.5})
    slow = served(seconds={"mul-0.9-int8": 1.5})
    assert chosen(fast, precision="any") == "mul-0.9-int8"
    assert chosen(slow, precision="any") == "mul-0.9"
    assert chosen(fast, precision="any", sigma=0.0) == "mul-0.0"


def test_a_twin_counts_only_where_it_was_measured() -> None:
    """Beyond its table's sigmas `any` stays in float32, and `int8` takes the next best twin or says what there is."""
    best = variant("mul-0.9", accuracy=[point(0.0, 0.9), point(1.0, 0.9)])
    low = variant("mul-0.9-int8", precision="int8", twin="mul-0.9", accuracy=[point(0.0, 1.0), point(0.4, 1.0)])
    version = served((best, NEXT, low, NEXT_8), seconds={"mul-0.9-int8": 0.5})
    assert chosen(version, precision="int8", sigma=0.4) == chosen(version, precision="any", sigma=0.4) == "mul-0.9-int8"
    assert chosen(version, precision="any", sigma=0.41) == "mul-0.9"
    assert chosen(version, precision="int8", sigma=0.41) == "mul-0.5-int8"
    assert chosen(version, "mul-0.9", "int8", sigma=3.0) == "mul-0.9-int8"  # it is asked for by name
    four = VoteOptions(sigma=0.8, reads=4, precision="int8")
    assert chosen_variant(version, four, "float32").name == "mul-0.9-int8"  # noise of 0.4
    with pytest.raises(
        InvalidValueError,
        match=r"precision: int8; no variant of tiny 1 is served in it at sigma 1\.01; "
        r"its twins were measured under multiplicative noise from 0 to 1$",
    ):
        chosen(version, precision="int8", sigma=1.01)
    additive = VoteOptions(sigma=0.3, noise="additive", precision="int8")
    with pytest.raises(InvalidValueError, match=r"no variant of tiny 1 is served in it under additive noise$"):
        chosen_variant(version, additive, "float32")


def test_the_choice_does_not_keep_its_version_alive() -> None:
    """A version that is no longer used goes at once, with its sessions, whatever was chosen of it before."""
    version = served()
    chosen(version, precision="int8")
    gone = weakref.ref(version)
    del version
    assert gone() is None


def test_what_is_not_served_in_a_precision_is_refused_by_name() -> None:
    """The key, its value and the variant are named; nothing else is served in its place."""
    with pytest.raises(InvalidValueError, match=r"precision: int8; variant 'mul-0.0' is not served in it"):
        chosen(served(), "mul-0.0", "int8")
    with pytest.raises(InvalidValueError, match=r"precision: int8; no variant of tiny 1 is served in it"):
        chosen(served((BEST, CLEAN)), precision="int8")
    with pytest.raises(InvalidValueError, match=r"precision: float32; no variant of tiny 1"):
        chosen(served((BEST_8,)))


def publish(store: ModelStore) -> Manifest:
    """The version above, in a store, with files that a fake engine takes."""
    published = manifest({}, shape=SHAPE, variants=ALL)
    store.publish(published, {each.name: b"onnx" for each in ALL})
    return published


async def test_the_answer_carries_the_variant_that_was_computed(tmp_path: Path) -> None:
    """Over HTTP the key replaces the choice, and asking again for the answer's variant repeats it vote for vote."""
    store = ModelStore(tmp_path)
    publish(store)
    inputs = [[[[0.5] * SHAPE[2]] * SHAPE[1]]]
    async with serve(store, FakeEngine(), precision="any") as client:
        body = {"inputs": inputs, "sigma": 1.0, "seed": 3, "votes": 7}
        answer = await client.post("/v1/models/tiny/predict", json=body | {"precision": "int8"})
        again = await client.post("/v1/models/tiny/predict", json=body | {"variant": answer.json()["variant"]})
        wrong = await client.post("/v1/models/tiny/predict", json=body | {"precision": "int4"})
        plan = await client.post("/v1/models/tiny/plan", json={"sigma": 1.0, "products": 100})
    assert answer.json()["variant"] == "mul-0.9-int8"
    assert again.json()["predictions"] == answer.json()["predictions"]
    assert wrong.status_code == 422
    assert "precision" in wrong.json()["error"]["message"]
    assert plan.json()["plan"]["variant"] == "mul-0.9"
    assert plan.json()["searched"]["variants"] == ["mul-0.9", "mul-0.5", "mul-0.0"]


def test_a_policy_may_fix_it() -> None:
    """An operator says in which precision a model is served; a request that asks for another is refused."""
    rules = {"sigma": {"fixed": 1.0}, "noise": {"fixed": "multiplicative"}, "votes": {"fixed": 20}}
    policy = Policy.model_validate({"predict": rules | {"precision": {"fixed": "int8"}}})

    def judged(**options: object) -> PredictionRequest:
        asked = VoteOptions(sigma=1.0, **options)  # type: ignore[arg-type]  # of whatever type
        return policy.prediction(PredictionRequest(asked, 1, lambda _: NotImplemented, frozenset(options)))

    assert judged().options.precision == "int8"
    with pytest.raises(PolicyError, match="precision: 'float32'"):
        judged(precision="float32")
