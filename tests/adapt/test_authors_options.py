"""The authors' own YAML files are read as they are."""

from pathlib import Path

import pytest

from psm_adapt import authors_options, config
from psm_stream.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]

# Keys and values of the six published files; people and paths shortened. Written anew, not copied.
COMMON = """
epochs: 17
batch_size: 16
neu_face_loss_weight: 'None'
initial_lrate: 8e-5
min_lr_to_tolerate: 5e-6
num_workers: 12
"""
PSM = (
    COMMON + "datapath: ./DISFA\nsavemodel: ./save_tests/\ncustom_data_loader: PSM\npersons_to_train: [SN001, SN002]\n"
)
PSM_TRANSFER = PSM + "loadmodel: PSM/SN001/ExpCode_500.tar\n"
PSM_CTL = PSM.replace("custom_data_loader: PSM", "custom_data_loader: PSM_wCTL") + "loadmodel: 'None'\n"
GM = COMMON + "datapath: list.txt\nsavemodel: ./save_tests/\ncustom_data_loader: GM\npersons_to_train: ['']\n"
GM_TRANSFER = GM + "loadmodel: FaceCycleModel.tar\n"
GM_CTL = GM.replace("custom_data_loader: GM", "custom_data_loader: GM_wCTL")
FILES = {
    "psm": PSM + "loadmodel: 'None'\n",
    "psm_transfer": PSM_TRANSFER,
    "psm_ctl": PSM_CTL,
    "gm": GM + "loadmodel: 'None'\n",
    "gm_transfer": GM_TRANSFER,
    "gm_ctl": GM_CTL,
}


def _load(tmp_path: Path, text: str) -> config.TrainSettings:
    (tmp_path / "theirs.yaml").write_text(text)
    return config.load(tmp_path / "theirs.yaml", {})


@pytest.mark.parametrize("approach", FILES)
def test_each_of_the_six_files_means_our_config_of_that_approach(tmp_path: Path, approach: str) -> None:
    theirs = _load(tmp_path, FILES[approach])
    ours = config.load(PROJECT / f"configs/train/{approach}.yaml", {})
    elsewhere = {"out", "data", "start_from"}
    assert theirs.model_dump(exclude=elsewhere) == ours.model_dump(exclude=elsewhere)


def test_where_things_are(tmp_path: Path) -> None:
    psm, gm = _load(tmp_path, PSM_TRANSFER), _load(tmp_path, GM_TRANSFER)
    assert psm.out == Path("save_tests/PSM")
    assert (psm.data.source, psm.data.people) == (Path("DISFA"), ["SN001", "SN002"])
    assert psm.start_from == Path("PSM/SN001/ExpCode_500.tar")
    assert (gm.data.source, gm.data.people, gm.start_from) == (Path("list.txt"), ["All"], Path("FaceCycleModel.tar"))


@pytest.mark.parametrize(
    ("weight", "means"), [("'None'", None), ("[0.5]", [0.5]), ("[1.0, 0.1]", [1.0, 0.1]), ("[1, 0]", [1.0, 0.0])]
)
def test_the_neutral_face_weight(tmp_path: Path, weight: str, means: list[float] | None) -> None:
    text = PSM.replace("neu_face_loss_weight: 'None'", f"neu_face_loss_weight: {weight}")
    assert _load(tmp_path, text).loss.neutral_weight == means


def test_all_is_everybody(tmp_path: Path) -> None:
    assert _load(tmp_path, PSM.replace("[SN001, SN002]", "All")).data.people == ["All"]
    assert _load(tmp_path, PSM.replace("[SN001, SN002]", "['All']")).data.people == ["All"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("epochs", "epoch"), "unknown option 'epoch' in an authors' config; did you mean epochs?"),
        (("persons_to_train", "person_to_train"), "unknown option 'person_to_train'.*did you mean persons_to_train?"),
        (
            ("custom_data_loader: PSM", "custom_data_loader: PSMs"),
            "custom_data_loader 'PSMs' is unknown; did you mean PSM?",
        ),
        (("epochs: 17", "epochs: many"), "config key 'run.epochs': input should be a valid integer"),
        (("batch_size: 16", "batch_size: 0"), "config key 'run.batch_size'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        _load(tmp_path, PSM.replace(*change))
    assert "\n" not in str(caught.value)


def test_every_option_is_in_the_document() -> None:
    document = (PROJECT / "docs/training.md").read_text(encoding="utf-8")
    for theirs, ours in authors_options.KEYS.items():
        assert f"| `{theirs}` | {f'`{ours}`' if ours else 'none'} |" in document
