"""The benchmark of data memory against sizes counted by hand."""

import json

from benchmarks.data_memory import Settings, config_of_width, main
from hiertcn_jax.batch import Bucket
from hiertcn_jax.layers.tcn import receptive_field


def test_bytes_are_those_of_the_arrays(tmp_path):
    lanes, width = 3, 8
    main(Settings(Bucket(lanes, 16, 8), 2000, 50, width, 1, str(tmp_path / "F.json")))
    cases = json.loads((tmp_path / "F.json").read_text())["cases"]
    assert cases["tcn_windows_float32"]["bytes_per_user"] == 200 * width * 4
    assert cases["tcn_windows_16bit"]["bytes_per_label"] == 200 * width * 2
    # GRU state, pooled sum, last item, 2 * (1 + 2 + 4) inputs of convolutions; and a count.
    assert cases["hiertcn_float32"]["bytes_per_user"] == (3 + 14) * width * 4 + 4
    assert cases["hiertcn_16bit"]["bytes_per_user"] == 2 * width * 4 + 4 + (1 + 14) * width * 2
    # Seven blocks see 254 events.
    assert cases["tcn_user_float32"]["bytes_per_user"] == (1 + 254) * width * 4
    assert receptive_field(config_of_width("tcn_user", width, "float32")) == 255

    case, carry = cases["hiertcn_float32"], cases["hiertcn_float32"]["bytes_per_user"]
    slots, sessions = lanes * 16, lanes * 8
    # Four ids or positions, seconds, a weight and a flag for each event; two flags and a gap for
    # each session.
    arrays = slots * (6 * 4 + 1) + sessions * (2 + 4)
    rows = case["distinct_items_per_batch"]
    expected = arrays + rows * (4 + width * 4) + lanes * carry
    assert case["bytes_per_label"] == round(expected / case["labels_per_batch"], 1)
    assert case["bytes_per_user_saved"] == round(1 - carry / (200 * width * 4), 4)
