import pytest

from pml_nmlayer.hooks import chain_hooks


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([None, None], True),
        ([True, False], False),
        ([False, True], False),
        ([0, None], True),  # PML stops on False itself, not on what is falsy
        ([], True),
    ],
)
def test_all_hooks_run_and_only_false_stops(returns, expected):
    seen = []

    def make(i, value):
        return lambda trainer: (seen.append((i, trainer)), value)[1]

    chain = chain_hooks(*[make(i, value) for i, value in enumerate(returns)])
    assert chain("trainer") is expected
    assert seen == [(i, "trainer") for i in range(len(returns))]


def test_not_a_hook():
    with pytest.raises(TypeError, match="must be callable"):
        chain_hooks(None)
