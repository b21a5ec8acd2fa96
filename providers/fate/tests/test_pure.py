"""Tests of the parts that need no FATE: python -m unittest discover tests."""

import io
import json
import tarfile
import tempfile
import unittest
import urllib.request
from pathlib import Path

from hutong_fate import control, metrics, parameters, privacy, registration, storage, tables, task, worker
from hutong_fate.errors import TaskError

ENVIRON = {
    "runtime.component.name": "hetero_secureboost_predict",
    "runtime.component.parameter.num_trees": "2",
    "runtime.component.input.test_data": '{"name": "t1", "namespace": "guest-A-data-d"}',
    "runtime.component.output.metric": '{"name": "t2", "namespace": "guest-A-report-m"}',
    "config.task_id": "t2",
    "config.session_id": "session_j",
    "config.self_role": "guest.0",
    "config.node_id.guest.0": "A",
    "config.node_id.host.1": "C",
    "config.node_id.host.0": "B",
    "system.storage": "file:///storage",
    "system.transport": "127.0.0.1:9390",
    "PATH": "/bin",
}


class TestTask(unittest.TestCase):
    def test_environ(self):
        t = task.from_environ(ENVIRON)
        t.check()
        self.assertEqual([str(p) for p in t.parties], ["guest.0", "host.0", "host.1"])
        self.assertEqual(t.self_role.node_id, "A")
        self.assertEqual(t.fate_component(), ("hetero_secureboost", "predict"))
        self.assertEqual(t.inputs["test_data"], task.Address("guest-A-data-d", "t1"))
        self.assertEqual(t.parameters, {"num_trees": "2"})

    def test_each_task_has_a_session(self):
        self.assertEqual(task.from_environ(ENVIRON).federation_id, "session_j_t2")
        own = {**ENVIRON, "config.session_id": "session_j_t2"}
        self.assertEqual(task.from_environ(own).federation_id, "session_j_t2")

    def test_refusals(self):
        for changed, words in (
            ({"runtime.component.name": ""}, "runtime.component.name"),
            ({"config.task_id": ""}, "config.task_id"),
            ({"config.self_role": "guest.x"}, "config.self_role"),
            ({"config.self_role": "host.7"}, "config.node_id.host.7"),
            ({"config.node_id.host.1": "B"}, "host.0 and host.1 are one party"),
            ({"runtime.component.input.a": "x"}, "runtime.component.input.a"),
            ({"runtime.component.input.a": '{"name": "..", "namespace": "n"}'}, "without a slash"),
            ({"runtime.component.input.a": '{"name": "n/m", "namespace": "n"}'}, "without a slash"),
        ):
            with self.subTest(changed), self.assertRaisesRegex(TaskError, words):
                task.from_environ({**ENVIRON, **changed}).check()

    def test_model_of_an_earlier_job(self):
        named = {**ENVIRON, "runtime.component.parameter.model_id": "20260101:sbt_0.output_model"}
        port, addresses = task.from_environ(named).model_addresses()
        self.assertEqual((port, len(addresses)), ("input_model", 5))
        self.assertEqual({a.namespace for a in addresses}, {"guest-A-model-output_model"})
        # TestTaskIDsOfProviders of Hutong has the same.
        self.assertEqual([a.name for a in addresses[-2:]],
                         ["592fd355-42c9-57d1-9ea2-856ae55465a8", "adb07590-3426-54e0-be8e-0efa1ddabbba"])
        given = {**named, "runtime.component.input.input_model": '{"name": "t1", "namespace": "n"}'}
        self.assertEqual(task.from_environ(given).model_addresses()[1], [])
        self.assertEqual(task.from_environ(ENVIRON).model_addresses()[1], [])
        with self.assertRaisesRegex(TaskError, "model_id"):
            task.from_environ({**ENVIRON, "runtime.component.parameter.model_id": "x"}).model_addresses()

    def test_cores(self):
        self.assertEqual(task.from_environ({**ENVIRON, "config.n_threads": "3.5"}).cores(), 3)
        self.assertGreaterEqual(task.from_environ(ENVIRON).cores(), 1)
        with self.assertRaisesRegex(TaskError, "n_threads"):
            task.from_environ({**ENVIRON, "config.n_threads": "many"}).cores()


class Describe:
    """A parameter as FATE describes it."""

    def __init__(self, apply, optional=True, default=None):
        self.apply, self.optional, self.default = apply, optional, default


class Component:
    def __init__(self, **mapping):
        self.parameters = self
        self.mapping = mapping


class TestParameters(unittest.TestCase):
    def test_values(self):
        for text, value in (("3", 3), ("1e-3", 1e-3), ("True", True), ("false", False), ("None", None),
                            ('{"a": [1]}', {"a": [1]}), ("binary:bce", "binary:bce"), ('"3"', "3"), ("", None)):
            self.assertEqual(parameters.value_of(text), value)

    def test_split(self):
        own, columns = parameters.split({"epochs": "3", "id": '"key"', "dataset_id": "a#b"}, ["epochs"])
        self.assertEqual((own, columns), ({"epochs": "3"}, {"id": "key"}))
        with self.assertRaisesRegex(TaskError, 'parameter epoch: .*did you mean "epochs"'):
            parameters.split({"epoch": "3"}, ["epochs"])
        self.assertEqual(parameters.split({"epochs": "3", "threshold": "1"}, ["threshold"], {"epochs"})[0], {"threshold": "1"})

    def test_check(self):
        def positive(v):
            if not isinstance(v, int) or v <= 0:
                raise RuntimeError(f"apply value `{v}` failed") from ValueError("must be greater than 0")

        def text(v):
            if not isinstance(v, str):
                raise RuntimeError from ValueError("must be text")

        c = Component(n=Describe(positive), name=Describe(text))
        self.assertEqual(parameters.check(c, {"n": "2", "name": "7"}), {"n": 2, "name": "7"})
        with self.assertRaisesRegex(TaskError, "parameter n: must be greater than 0"):
            parameters.check(c, {"n": "0"})
        with self.assertRaisesRegex(TaskError, "parameter n: is required"):
            parameters.check(Component(n=Describe(positive, optional=False, default=...)), {})


class TestTables(unittest.TestCase):
    def write(self, *partitions):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(lambda: __import__("shutil").rmtree(folder))
        for n, text in enumerate(partitions):
            (folder / f"data_{n}").write_text(text, encoding="utf-8")
        return folder

    def test_read_partitions(self):
        folder = self.write("\ufeffid,x\na,1\n", 'id,x\n"b,c",2\n\n')
        self.assertEqual(tables.read_csv(folder, 2), (["id", "x"], [["a", "1"], ["b,c", "2"]]))

    def test_read_refusals(self):
        for parts, words in ((("",), "no header"), (("id,id\n",), "name of another"),
                             (("id,x\n", "id,y\n"), "another header"), (("id,x\nsecret\n",), "line 2: has 1 fields")):
            with self.subTest(parts), self.assertRaisesRegex(TaskError, words) as raised:
                tables.read_csv(self.write(*parts), len(parts))
            self.assertNotIn("secret", str(raised.exception))

    def test_layout(self):
        metadata = {"column_info": [{"name": "y", "type": "int64"}, {"name": "s", "type": "string"}]}
        found = tables.layout(["sid", "id", "y", "x", "s"], metadata, {})
        self.assertEqual((found.id, found.sid, found.label, found.label_type), ("id", "sid", "y", "int32"))
        self.assertEqual(found.dtypes, {"x": "float32", "s": "object"})

    def test_layout_of_parameters_and_metadata(self):
        header = ["key", "target", "x", "w"]
        self.assertEqual(tables.layout(header, {"metadata": {"match_id_name": "key"}}, {}).id, "key")
        found = tables.layout(header, {}, {"id": "key", "label": "target", "weight": "w"})
        self.assertEqual((found.id, found.label, found.weight, found.dtypes), ("key", "target", "w", {"x": "float32"}))
        kept = {"metadata": {tables.EXTRA: {"id": "key", "label": "target", "dtypes": {"x": "float64"}}}}
        self.assertEqual(tables.layout(header[:3], kept, {}).dtypes, {"x": "float64"})
        with self.assertRaisesRegex(TaskError, "no column 'no'"):
            tables.layout(header, {}, {"id": "no"})
        with self.assertRaisesRegex(TaskError, "parameter id"):
            tables.layout(header, {}, {})
        # A host has no label.
        self.assertIsNone(tables.layout(["id", "x"], {}, {"label": "target"}).label)


class TestMetrics(unittest.TestCase):
    def step(self, n, value):
        return {"name": "sbt_loss", "type": "loss", "groups": [], "step_axis": "iterations",
                "data": [{"metric": value, "step": n, "timestamp": 1.0}]}

    def test_steps_become_a_series(self):
        m = metrics.Metrics({"num_trees": "4"})
        m.add(self.step(0, 0.5))
        m.add(self.step(1, float("nan")))
        m.add({"name": "summary", "type": None, "groups": [], "step_axis": None, "data": {"rows": 3}})
        loss, summary = m.report()
        self.assertEqual([d["metric"] for d in loss["data"]], [0.5, None])
        self.assertEqual(summary["data"], {"rows": 3})
        json.dumps(m.report(), allow_nan=False)

    def test_progress(self):
        m = metrics.Metrics({"num_trees": "4"})
        self.assertEqual(m.progress(), {})
        m.add(self.step(1, 0.25))
        self.assertEqual(m.progress(), {"msg": "sbt_loss 0.25, iterations 2 of 4", "progress": 0.5})

    def test_server(self):
        m = metrics.Metrics()
        server = metrics.MetricServer(m)
        self.addCleanup(server.close)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        body = json.dumps({"data": [self.step(0, 0.5)]}).encode()
        opener.open(urllib.request.Request(server.url, data=body), timeout=5)
        self.assertEqual(len(m.report()), 1)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            opener.open(urllib.request.Request(server.url.rsplit("/", 1)[0] + "/x", data=body), timeout=5)
        self.assertEqual(refused.exception.code, 404)

    def test_control(self):
        t, m = task.from_environ(ENVIRON), metrics.Metrics()
        m.add(self.step(0, 0.5))
        status, document = control.answer(t, m, control.PATH, b'{"task_id": "t2"}')
        self.assertEqual((status, document["status"], document["role"]), (200, "RUNNING", "guest"))
        self.assertEqual(document["data"]["msg"], "sbt_loss 0.5, iterations 1")
        self.assertEqual(control.answer(t, m, control.PATH, b'{"task_id": "other"}')[0], 404)
        self.assertEqual(control.answer(t, m, control.PATH, b"x")[0], 400)
        self.assertEqual(control.answer(t, m, "/", b"")[0], 404)


class TestPrivacy(unittest.TestCase):
    def test_cells(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data_0"
            path.write_text("id,city,x\nwdbc000475,Old Town,12.5\n")
            for message in ("could not convert string to float: 'Old Town'", "KeyError: wdbc000475 is missing",
                            "tensor([0.25, 1.75, 3.5, 9.25, 1.0])", "value 12.5 is wrong"):
                text = privacy.redact(message, [path])
                for cell in ("Old Town", "wdbc000475", "12.5", "9.25", "0.25"):
                    self.assertNotIn(cell, text)
        self.assertIn("could not convert", privacy.redact("could not convert\n x", []))
        self.assertLessEqual(len(privacy.redact("x " * 5000, [])), 800)

    def test_names_stay(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data_0"
            path.write_text("id,label\na,label\n")
            self.assertIn("label", privacy.redact("column 'label' is missing", [path], ["label"]))


class TestStorage(unittest.TestCase):
    def test_file(self):
        with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as work:
            store = storage.open_storage("file://" + root)
            data, address = Path(work) / "d", task.Address("n", "x")
            data.write_text("id\na\n")
            storage.store_object(store, address, data, data_type="dense", file_type="csv", count=1, description="")
            metadata = storage.fetch_object(store, address, Path(work) / "in")
            self.assertEqual((metadata["partitions"], metadata["count"]), (1, 1))
            self.assertEqual((Path(work) / "in" / "data_0").read_text(), "id\na\n")
            self.assertEqual(sorted(p.name for p in (Path(root) / "n" / "x").iterdir()), ["data_0", "metadata"])
            with self.assertRaisesRegex(TaskError, "has no metadata"):
                storage.fetch_object(store, task.Address("n", "other"), Path(work) / "in2")

    def test_addresses(self):
        for url in ("ftp://x", "s3://", "file://relative"):
            with self.subTest(url), self.assertRaisesRegex(TaskError, "system.storage"):
                storage.open_storage(url)
        with self.assertRaises(TaskError) as refused:
            storage.open_storage("http://h?password=secret")
        self.assertNotIn("secret", str(refused.exception))


class TestUnpack(unittest.TestCase):
    def archive(self, *members):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(lambda: __import__("shutil").rmtree(folder))
        with tarfile.open(folder / "data_0", "w:gz") as archive:
            for name, kind in members:
                member = tarfile.TarInfo(name)
                member.type, member.size, member.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "/etc"
                archive.addfile(member, io.BytesIO(b"m"))
        return folder / "data_0"

    def test_folder(self):
        path = self.archive(("checkpoint", tarfile.DIRTYPE), ("checkpoint/model.bin", tarfile.REGTYPE))
        worker.unpack(path, path.with_name("model"))
        self.assertEqual((path.parent / "model" / "checkpoint" / "model.bin").read_bytes(), b"m")

    def test_refusals(self):
        for member in (("../x", tarfile.REGTYPE), ("/tmp/x", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)):
            path = self.archive(member)
            with self.subTest(member), self.assertRaisesRegex(TaskError, "archive"):
                worker.unpack(path, path.with_name("model"))


class TestRegistration(unittest.TestCase):
    def test_bounds(self):
        for schema, rule in (({"exclusiveMinimum": 0}, "(0,sup)"), ({"minimum": 0}, "[0,sup)"),
                             ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, "(0,1)"),
                             ({"minimum": 1, "maximum": 9}, "[1,9]"), ({"type": "integer"}, None)):
            self.assertEqual(registration.bounds(schema), rule)


if __name__ == "__main__":
    unittest.main()
