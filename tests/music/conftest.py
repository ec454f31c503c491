import pytest

from musician.data.sources.corpus import iter_tunes

REEL = """X:7
T:The Test Reel % a comment
R:reel
M:4/4
L:1/8
K:G
|:G2BG dGBG|G2Bd gdBG|c2ec B2dB|AGFA G4:|
|:gfge d2Bd|gfge dBGB|c2ec B2dB|AGFA G4:|
"""


@pytest.fixture(scope="session")
def reel() -> str:
    return REEL


@pytest.fixture(scope="session")
def corpus_sample() -> list[str]:
    """Every 15th tune of the default collections, some 300."""
    return [tune.text for tune in iter_tunes()][::15]
