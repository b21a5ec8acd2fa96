"""Tests of what FATE itself does: python -m unittest discover tests, in an environment with FATE."""

import csv
import enum
import json
import os
import pickle
import secrets
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import pandas
from hutong_fate import parameters, registration, storage, tables, task, worker
from hutong_fate.errors import TaskError


class Colour(enum.Enum):
    RED = 1


class TestS3(unittest.TestCase):
    @unittest.skipUnless(os.environ.get("HUTONG_TEST_S3"), "HUTONG_TEST_S3 names no S3 server")
    def test_objects(self):
        url = os.environ["HUTONG_TEST_S3"].replace("bucket=hutong", "bucket=fate-" + secrets.token_hex(4))
        with tempfile.TemporaryDirectory() as work:
            store, data, address = storage.open_storage(url), Path(work) / "d", task.Address("n", "x")
            with self.assertRaisesRegex(TaskError, "has no metadata"):  # nor is there a bucket
                storage.fetch_object(store, address, Path(work) / "none")
            data.write_text("id\na\n")
            storage.store_object(store, address, data, data_type="dense", file_type="csv", count=1, description="")
            storage.fetch_object(store, address, Path(work) / "in")
            self.assertEqual((Path(work) / "in" / "data_0").read_text(), "id\na\n")
            wrong = storage.open_storage(url.replace("hutong-secret", "wrong"))
            with self.assertRaisesRegex(TaskError, "the storage refused"):
                storage.fetch_object(wrong, address, Path(work) / "refused")


class TestFATE(unittest.TestCase):
    def test_registration(self):
        made = registration.registration("process", {"command": ["x"]})
        described = made["components_description"]
        self.assertEqual(len(described), 34)
        self.assertEqual(made["metadata"]["session"], "task")
        for name in ("psi", "hetero_secureboost", "hetero_secureboost_predict", "hetero_secureboost_cv", "sshe_lr"):
            self.assertIn(name, described)
        boost = described["hetero_secureboost"]
        self.assertEqual([p["name"] for p in boost["inputData"]], ["train_data", "validate_data", "warm_start_model"])
        self.assertEqual([p["name"] for p in boost["outputData"]], ["train_output_data", "output_model", "metric"])
        trees = [p for p in boost["inputParam"] if p["name"] == "num_trees"][0]
        self.assertEqual((trees["type"], trees["defaultValue"], trees["validator"]), ("integer", "3", "(0,sup)"))
        json.dumps(made)

    def test_fates_words(self):
        component, _ = worker.load(SimpleNamespace(component="hetero_secureboost", stage=""))
        with self.assertRaisesRegex(TaskError, "parameter num_trees: ensure this value is greater than 0"):
            parameters.check(component, {"num_trees": "0"})
        with self.assertRaisesRegex(TaskError, "parameter he_param"):
            parameters.check(component, {"he_param": '{"kind": "none"}'})

    def test_a_role_without_inputs_trains(self):
        self.assertEqual(worker.load(SimpleNamespace(component="coordinated_lr", stage=""))[1].name, "train")
        self.assertEqual(worker.load(SimpleNamespace(component="psi", stage=""))[1].name, "default")

    def test_enums_need_no_getattr(self):
        worker.pickle_enums_by_value()
        self.assertNotIn(b"getattr", pickle.dumps(Colour.RED))
        self.assertIs(pickle.loads(pickle.dumps(Colour.RED)), Colour.RED)

    def test_frame(self):
        header, rows = ["id", "y", "x", "s"], [["a", "1", "0.5", "t"], ["b", "0", "", "u"]]
        metadata = {"column_info": [{"name": "s", "type": "string"}, {"name": "y", "type": "int64"}]}
        frame = tables.frame_of(header, rows, tables.layout(header, metadata, {}))
        self.assertEqual(frame["sid"].tolist(), ["a", "b"])
        # A party's own numbers of rows are no ids of rows in common, unless ids repeat.
        numbered = tables.layout(["sid", "id"], {}, {})
        self.assertEqual(tables.frame_of(["sid", "id"], [["1", "a"], ["2", "b"]], numbered)["sid"].tolist(), ["a", "b"])
        self.assertEqual(tables.frame_of(["sid", "id"], [["1", "a"], ["2", "a"]], numbered)["sid"].tolist(), ["1", "2"])
        self.assertTrue(frame["x"].isna()[1])
        for bad, words in (([["a", "1", "secret", "t"]], "column 'x', row 1: is not a number"),
                           ([["a", "0.5", "1", "t"]], "column 'y': must be whole"),
                           ([["a", "1", "1", "t"], ["a", "1", "1", "t"]], "ids repeat")):
            with self.subTest(words), self.assertRaisesRegex(TaskError, words) as raised:
                tables.frame_of(header, bad, tables.layout(header, metadata, {}))
            self.assertNotIn("secret", str(raised.exception))

    def test_quotes_of_fates_own(self):
        frame = pandas.DataFrame({"id": ["a,", "b"], "score": [0.5, None], "predict_detail": ["\"{'s': 1}\"", "\"{}\""],
                                  "type": ["train", '"x"']})
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "rows"
            tables._write_rows(frame, path)
            self.assertEqual(path.read_text().splitlines()[1:], ['"a,",0.5,"{\'s\': 1}",train', 'b,"","{}","""x"""'])
            with open(path, newline="") as f:
                self.assertEqual(list(csv.reader(f)), [["id", "score", "predict_detail", "type"],
                                                       ["a,", "0.5", "{'s': 1}", "train"], ["b", "", "{}", '"x"']])

    def test_rows_keep_their_ids(self):
        """Runs a component that needs no partner, and reads a table back."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in" / "input_data").mkdir(parents=True)
            with open(folder / "in" / "input_data" / "data_0", "w", newline="") as f:
                csv.writer(f).writerows([["sid", "id", "x"]] + [[f"s{i}", f"r{i // 2}", i / 4] for i in range(40)])
            job = SimpleNamespace(
                folder=folder, component="sample", stage="", task_id="t", role="guest", index=0, node_id="A",
                parties=[{"role": "guest", "node_id": "A"}], federation_id="s", transport="127.0.0.1:1", token="",
                cores=1, inputs={"input_data": {"metadata": {"partitions": 1}}}, metric_url="http://127.0.0.1:1/",
                parameters={"n": "10", "hetero_sync": "false", "random_state": "1"},
            )
            made = worker.Run(job).execute()
            self.assertEqual([(m["port"], m["count"]) for m in made], [("output_data", 10)])
            with open(folder / "out" / "output_data", newline="") as f:
                rows = list(csv.reader(f))
            self.assertEqual(rows[0], ["sid", "id", "x"])
            for sid, ident, x in rows[1:]:
                self.assertEqual((ident, float(x)), (f"r{int(sid[1:]) // 2}", int(sid[1:]) / 4))

    def test_model_of_an_earlier_job(self):
        """Runs the program as a FATE-Flow does that got model_id from Hutong: without the model as an input."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            store = storage.open_storage("file://" + name)
            rows = root / "rows.csv"
            rows.write_text("id,x\n" + "".join(f"r{i},{i / 4}\n" for i in range(20)))
            storage.store_object(store, task.Address("demo", "rows"), rows, data_type="dense", file_type="csv", count=20,
                                 description="", columns=[{"name": "id", "type": "string"}])
            trained = "adb07590-3426-54e0-be8e-0efa1ddabbba"  # of the task sbt_0 of the job 20260101

            def run(component, task_id, port, more):
                output = "train_output_data" if port == "train_data" else "test_output_data"
                variables = {
                    "runtime.component.name": component,
                    "runtime.component.input." + port: '{"namespace": "demo", "name": "rows"}',
                    "runtime.component.output." + output: f'{{"namespace": "guest-A-data-d", "name": "{task_id}"}}',
                    "config.task_id": task_id, "config.session_id": "s", "config.self_role": "guest.0",
                    "config.node_id.guest.0": "A", "system.storage": "file://" + name,
                    "system.transport": "127.0.0.1:1", **more,
                }
                made = subprocess.run([sys.executable, "-m", "hutong_fate"], env={**os.environ, **variables},
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
                self.assertEqual(made.returncode, 0, made.stdout)
                return (root / "guest-A-data-d" / task_id / "data_0").read_text()

            model = f'{{"namespace": "guest-A-model-output_model", "name": "{trained}"}}'
            first = run("feature_scale", trained, "train_data", {
                "runtime.component.parameter.method": "standard", "runtime.component.output.output_model": model})
            again = run("feature_scale_predict", "t2", "test_data", {
                "runtime.component.parameter.model_id": "20260101:sbt_0.output_model"})
            self.assertEqual(first, again)
            self.assertNotEqual(first, rows.read_text())


if __name__ == "__main__":
    unittest.main()
