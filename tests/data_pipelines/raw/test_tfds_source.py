import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.errors import DataError
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.tfds_source import read_tfds
from tests.data_pipelines.logs import small_times

OPTIONS = small_times(Columns(item="movie_id"))


class Ratings(tfds.dataset_builders.AdhocBuilder, skip_registration=True):
    """A dataset as it comes, without asking whether its data are TensorFlow's."""

    def _split_generators(self, dl_manager):
        return {name: iter(examples) for name, examples in self._split_datasets.items()}


def build(data_dir, ratings):
    builder = Ratings(
        name="ratings",
        version="1.0.0",
        config="tiny",
        data_dir=data_dir,
        features=tfds.features.FeaturesDict(
            {
                "user_id": tfds.features.Text(),
                "movie_id": tfds.features.Scalar(np.int64),
                "timestamp": tfds.features.Scalar(np.int64),
                "rating": tfds.features.Scalar(np.float32),
            }
        ),
        split_datasets={
            name: [(k, {**rating, "rating": 4.5}) for k, rating in enumerate(part)]
            for name, part in ratings.items()
        },
        file_format="array_record",
        disable_shuffling=True,
    )
    builder.download_and_prepare()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    rating = {"user_id": "é", "movie_id": 12, "timestamp": 5}
    build(
        directory,
        {
            "train": [{**rating, "timestamp": time} for time in range(3)],
            "test": [{**rating, "movie_id": 7}],
        },
    )
    return str(directory)


def test_reads_all_splits(data_dir):
    log, drops = read_tfds("ratings/tiny", data_dir, OPTIONS)
    assert log.user_ids.to_list() == ["é"]
    assert log.item_ids.gather(log.items).to_list() == ["7", "12", "12", "12"]
    assert log.times_ms.tolist() == [5000, 0, 1000, 2000]
    assert drops == []


def test_missing_feature(data_dir):
    with pytest.raises(DataError, match=r"column 'item_id' is missing; found .*movie_id"):
        read_tfds("ratings/tiny", data_dir, small_times())


def test_features_that_cannot_be_ids(data_dir):
    with pytest.raises(DataError, match=r"'rating': expected a whole number, got 4\.5"):
        read_tfds("ratings/tiny", data_dir, small_times(Columns(item="rating")))
    with pytest.raises(DataError, match="'rating': Float32 has steps of 128 seconds"):
        read_tfds("ratings/tiny", data_dir, ReadOptions(Columns(item="movie_id", time="rating")))


@pytest.mark.parametrize("name", ["movielens/100k-ratings", "no_such_dataset", "ratings/other"])
def test_a_dataset_that_is_not_prepared_is_one_line(data_dir, name):
    with pytest.raises(DataError, match=f"TFDS dataset '{name}' is not prepared in .*tfds build"):
        read_tfds(name, data_dir, OPTIONS)


def test_a_file_format_without_random_access_is_one_line(tmp_path):
    build(tmp_path, {"train": [{"user_id": "u", "movie_id": 1, "timestamp": 1}]})
    info = tmp_path / "ratings" / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="split 'train' cannot be read without TensorFlow"):
        read_tfds("ratings/tiny", str(tmp_path), OPTIONS)


def test_bad_record(tmp_path):
    build(tmp_path, {"train": [{"user_id": "", "movie_id": 1, "timestamp": 1}]})
    with pytest.raises(DataError, match="ratings/tiny train: row 1, column 'user_id'"):
        read_tfds("ratings/tiny", str(tmp_path), OPTIONS)


RATING = {"user_id": "u", "movie_id": 1, "timestamp": 1}


def refusal(directory, name="ratings/tiny"):
    with pytest.raises(DataError) as caught:
        read_tfds(name, str(directory), OPTIONS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_from_elsewhere_are_not_imported(tmp_path, monkeypatch):
    build(tmp_path / "data", {"train": [RATING]})
    (tmp_path / "elsewhere.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "data" / "ratings" / "tiny" / "1.0.0" / "features.json"
    text = path.read_text()
    assert "tensorflow_datasets.core.features.text_feature.Text" in text
    path.write_text(
        text.replace("tensorflow_datasets.core.features.text_feature.Text", "elsewhere.Text")
    )
    message = refusal(tmp_path / "data")
    assert "features.json: 'elsewhere.Text' is no class of tensorflow_datasets; prep" in message
    # Check that the module could be imported.
    with pytest.raises(SystemExit, match="imported"):
        tfds.builder_from_directory(path.parent)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "ratings-train.array"])
def test_damaged_files_are_one_line(tmp_path, name):
    build(tmp_path, {"train": [RATING]})
    (path,) = (tmp_path / "ratings" / "tiny" / "1.0.0").glob(f"{name}*")
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in (message := refusal(tmp_path)) or "cannot be read: " in message


@pytest.mark.parametrize("name", ["", "a:b:c", "../ratings", "ratings/tiny:x", "\0"])
def test_a_name_that_is_none_is_one_line(data_dir, name):
    assert "TFDS dataset" in refusal(data_dir, name)
