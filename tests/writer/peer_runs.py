"""Runs that go through this writer and through others, for comparison."""

from __future__ import annotations

from collections.abc import Iterable

from documents import Pair, RunBuilder, data_key, scalar_run


def plain_scan() -> Iterable[Pair]:
    return scalar_run(events=4, plan_name="scan", scan_id=3, num_points=4, motors=["x"]).docs


def all_scalars() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    keys = {
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "string": "string",
        "f8": data_key("number", dtype_numpy="<f8"),
        "i8": data_key("integer", dtype_numpy="<i8"),
    }
    run.descriptor("primary", keys)
    for i in range(3):
        run.event(
            "primary",
            {
                "number": i / 2,
                "integer": i,
                "boolean": i == 1,
                "string": "é" * i,
                "f8": i / 3,
                "i8": -i,
            },
        )
    run.stop()
    return run.docs


def several_streams() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    for stream in ("baseline", "primary", "two words", "a_b", "a"):
        run.descriptor(stream, {"c": "number", "b_c": "integer"})
    run.event("baseline", {"c": 0.5, "b_c": 1})
    for i in range(3):
        for stream in ("primary", "two words", "a_b", "a"):
            run.event(stream, {"c": i / 2, "b_c": i})
    run.event("baseline", {"c": 1.5, "b_c": 2})
    run.stop()
    return run.docs


def a_key_of_two_streams() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    run.descriptor("monitor", {"x": data_key("string", source="another")})
    run.event("primary", {"x": 0.5})
    run.event("monitor", {"x": "a"})
    run.stop()
    return run.docs


def configuration_updates() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    for i in range(3):
        run.descriptor(
            "primary",
            {"x": "number"},
            configuration={
                "camera": {
                    "data": {"exposure": i / 4, "mode": "fast", "roi": [0, i]},
                    "timestamps": {"exposure": 1.0 * i, "mode": 2.0, "roi": 3.0},
                    "data_keys": {
                        "exposure": data_key(),
                        "mode": data_key("string"),
                        "roi": data_key("array", [2]),
                    },
                }
            },
        )
        run.event("primary", {"x": i / 2})
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 9.5})
    run.stop()
    return run.docs


def arrays() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    keys = {
        "x": "number",
        "wave": data_key("array", [2], dtype_numpy="<f8"),
        "image": data_key("array", [2, 4], dtype_numpy="<u2"),
        "flags": data_key("array", [2], dtype_numpy="|b1"),
    }
    run.descriptor("primary", keys)
    for i in range(4):
        run.event(
            "primary",
            {
                "x": i / 2,
                "wave": [0.5, i],
                "image": [[i] * 4, [7] * 4],
                "flags": [True, i > 1],
            },
        )
    run.stop()
    return run.docs


def square_images() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"x": "number", "image": data_key("array", [2, 2], dtype_numpy="<i4")}
    )
    for i in range(2):
        run.event("primary", {"x": 0.5, "image": [[i, 1], [2, 3]]})
    run.stop()
    return run.docs


def arrays_of_undeclared_type() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    for i in range(2):
        run.event("primary", {"x": i / 2, "wave": [0.5, i / 2]})
    run.stop()
    return run.docs


def arrays_of_undeclared_type_with_integers() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    for i in range(2):
        run.event("primary", {"x": i / 2, "wave": [2**60 + 1, i]})
    run.stop()
    return run.docs


def arrays_of_strings() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "names": data_key("array", [2], dtype_numpy="<U4")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "names": ["ab", "é" * (i + 1)]})
    run.stop()
    return run.docs


def ragged_arrays() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"x": "number", "trace": data_key("array", [None], dtype_numpy="<f8")}
    )
    for i in range(3):
        run.event("primary", {"x": i / 2, "trace": [0.5] * (3 - i)})
    run.stop()
    return run.docs


def arrays_of_varying_length() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "trace": data_key("array", [3], dtype_numpy="<f8")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "trace": [0.5] * (i + 1)})
    run.stop()
    return run.docs


def reserved_names() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        {"time": "number", "seq_num": "integer", "x": "number"},
        hints={"device": {"fields": ["time", "x"]}},
    )
    for i in range(3):
        run.event("primary", {"time": i / 2, "seq_num": i, "x": i / 3})
    run.stop()
    return run.docs


def streams_without_events() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("empty", {"x": "number", "image": data_key("array", [2], dtype_numpy="<u2")})
    run.descriptor("primary", {"x": "number"})
    run.event("primary", {"x": 0.5})
    run.stop()
    return run.docs


def no_streams() -> Iterable[Pair]:
    run = RunBuilder()
    run.start(plan_name="nothing")
    run.stop()
    return run.docs


def aborted() -> Iterable[Pair]:
    run = scalar_run(events=2)
    run.docs[-1][1].update(exit_status="abort", reason="by hand")
    return run.docs


def failed_before_any_stream() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.stop("fail", reason="no beam")
    return run.docs


def not_stopped() -> Iterable[Pair]:
    return scalar_run(events=2).docs[:-1]


def repeated_seq_num() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number"})
    for seq_num in (1, 2, 3, 2, 3, 4):
        run.event("primary", {"x": seq_num / 2}, seq_num=seq_num)
    run.stop()
    return run.docs


def old_descriptors() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        {
            "x": data_key("number", dtype_str="<f8"),
            "n": {"source": "test", "dtype": "integer", "shape": None, "dtype_str": "<i8"},
            "image": data_key("array", [2, 3], dtype_str="<u2"),
            "label": {"source": "test", "dtype": "string", "shape": []},
        },
        object_keys={"motor": ["x"], "camera": ["n", "image", "label"]},
        hints={"motor": {"fields": ["x"]}, "camera": {}},
        configuration={
            "camera": {
                "data": {"size": [2, 3]},
                "timestamps": {"size": 0.5},
                "data_keys": {"size": {"source": "", "dtype": "array", "shape": None}},
            }
        },
    )
    for i in range(3):
        run.event("primary", {"x": i / 2, "n": i, "image": [[i] * 3] * 2, "label": "a"})
    run.stop()
    return run.docs


def event_pages() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary", {"x": "number", "image": data_key("array", [2, 3], dtype_numpy="<u2")}
    )
    rows = [{"x": i / 2, "image": [[i] * 3] * 2} for i in range(6)]
    run.event_page("primary", rows[:2])
    run.event("primary", rows[2])
    run.event_page("primary", rows[3:])
    run.stop()
    return run.docs


def tags_and_specs() -> Iterable[Pair]:
    run = scalar_run(
        tiled_specs=["MyRun", {"name": "TheirRun", "version": "1.2"}], tiled_access_tags=None
    )
    return run.docs


def many_columns() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    keys = [f"key_{i:03}" for i in range(700)]
    run.descriptor("primary", dict.fromkeys(keys, data_key()))
    for i in range(2):
        run.event("primary", dict.fromkeys(keys, i / 2))
    run.stop()
    return run.docs


def integers_of_a_number() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "y": "number"})
    for i in range(3):
        run.event("primary", {"x": i, "y": i / 2})
    run.stop()
    return run.docs


def a_key_that_no_event_has() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "never": "integer"})
    for i in range(2):
        run.event("primary", {"x": i / 2})
    run.stop()
    return run.docs


def a_value_that_is_none() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "n": "integer"})
    run.event("primary", {"x": 0.5, "n": None})
    run.event("primary", {"x": None, "n": None})
    run.stop()
    return run.docs


def narrow_types() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor(
        "primary",
        {
            "x": "number",
            "f4": data_key("number", dtype_numpy="<f4"),
            "u2": data_key("integer", dtype_numpy="<u2"),
        },
    )
    run.event("primary", {"x": 0.5, "f4": 1.5, "u2": 65535})
    run.stop()
    return run.docs


def metadata_beyond_json() -> Iterable[Pair]:
    run = scalar_run(
        big=2**53 + 1,
        bigger=2**64 - 1,
        nan=float("nan"),
        inf=[float("inf"), -float("inf")],
        blob=b"text",
    )
    return run.docs


def arrays_of_strings_of_undeclared_type() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2])})
    for i in range(2):
        run.event("primary", {"x": i / 2, "wave": ["ab", "é"]})
    run.stop()
    return run.docs


def arrays_of_longer_strings_than_declared() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "names": data_key("array", [2], dtype_numpy="<U2")})
    for i in range(3):
        run.event("primary", {"x": i / 2, "names": ["ab", "c" * (i + 1)]})
    run.stop()
    return run.docs


def an_array_that_an_event_lacks() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"x": "number", "wave": data_key("array", [2], dtype_numpy="<i4")})
    run.event("primary", {"x": 0.5, "wave": [1, 2]})
    run.event("primary", {"x": 1.5})
    run.event("primary", {"x": 2.5, "wave": [3, 4]})
    run.stop()
    return run.docs


def structured_arrays() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    descr = [["q", "<f8"], ["n", "<i4"]]
    run.descriptor("primary", {"x": "number", "hits": data_key("array", [2], dtype_descr=descr)})
    for i in range(2):
        run.event("primary", {"x": 0.5, "hits": [(0.5, i), (1.5, i)]})
    run.stop()
    return run.docs


def a_renamed_key_whose_new_name_is_taken() -> Iterable[Pair]:
    run = RunBuilder()
    run.start()
    run.descriptor("primary", {"time": "number", "time_": "number"})
    run.event("primary", {"time": 0.5, "time_": 1.5})
    run.stop()
    return run.docs
