package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/boost"
)

var predictionOutputs = []string{"predictions", "predict-auc", "predict-ks"}

// predict starts the predicting component of a trained one, with the model and the data of other tasks.
func (b *testEnv) predict(task, component, model, data string, parameters map[string]string,
) map[string]*process {
	started := map[string]*process{}
	for role := range b.nodes {
		inputs := map[string]string{
			"model":     addressJSON(b.output(role, model, "model")),
			"test_data": addressJSON(b.output(role, data, "train_data")),
		}
		started[role] = b.start(b.environ(role, task, component, parameters, inputs, predictionOutputs))
	}
	return started
}

// TestPredict checks that a model gives the rows of its training the scores of the training, and that it
// scores other rows which have no label.
func TestPredict(t *testing.T) {
	for component, c := range map[string]struct {
		nodes                 map[string]string
		parameters, ofPredict map[string]string
	}{
		"HeteroSecureBoost": {pair("A", "B"), withKey(boostParameters, 1024), nil},
		"HeteroLR": {map[string]string{"guest": "A", "host": "B", "arbiter": "C"},
			withKey(lrParameters, 1024), withKey(map[string]string{}, 1024)},
	} {
		t.Run(component, func(t *testing.T) {
			t.Parallel()
			b := newTestEnv(t, c.nodes)
			b.upload("guest", "guest.csv", 1)
			b.upload("host", "host.csv", 1)
			b.succeed(b.intersection("task-1"))
			b.succeed(b.train("task-2", component, c.parameters, "task-1"))
			trained := b.readCSV("guest", "task-2", "train_data")
			before := len(b.transport.Messages())

			b.succeed(b.predict("task-3", component+"_predict", "task-2", "task-1", c.ofPredict))
			require.Equal(t, trained, b.readCSV("guest", "task-3", "predictions"))
			require.Equal(t, column(trained, 0), column(b.readCSV("host", "task-3", "predictions"), 0))
			var auc, trainedAUC struct{ Value float64 }
			b.readJSON("guest", "task-3", "predict-auc", &auc)
			b.readJSON("guest", "task-2", "train-auc", &trainedAUC)
			require.Equal(t, trainedAUC, auc)
			for _, m := range b.transport.Messages()[before:] {
				for _, word := range []string{"wdbc", "threshold", "weight", `"x0"`} {
					require.NotContains(t, string(m.Payload), word)
				}
			}

			// The same scores for fewer rows in another order, without labels and with a column of text.
			rows := b.readCSV("guest", "task-1", "train_data")
			lines := []string{"note," + strings.Join(append([]string{rows[0][0]}, rows[0][2:]...), ",")}
			for i := 200; i > 100; i-- {
				lines = append(lines, "-,"+strings.Join(append([]string{rows[i][0]}, rows[i][2:]...), ","))
			}
			b.uploadRows("guest", lines, 2)
			b.succeed(b.intersection("task-4"))
			b.succeed(b.predict("task-5", component+"_predict", "task-2", "task-4", c.ofPredict))
			want := [][]string{{"id", "predict_score", "predict_result"}}
			for _, row := range trained[101:201] {
				want = append(want, []string{row[0], row[2], row[3]})
			}
			require.Equal(t, want, b.readCSV("guest", "task-5", "predictions"))
			var marker map[string]string
			b.readJSON("guest", "task-5", "predict-auc", &marker)
			require.Contains(t, marker["note"], "no labels")
			require.Zero(t, b.transport.Unread())
		})
	}
}

// TestPredictRefuses checks that parts of different models, rows that differ and models of other roles are
// refused at both sides.
func TestPredictRefuses(t *testing.T) {
	b := newTestEnv(t, pair("A", "B"))
	b.upload("guest", "guest.csv", 1)
	b.upload("host", "host.csv", 1)
	b.succeed(b.intersection("task-1"))
	b.succeed(b.train("task-2", "HeteroSecureBoost", withKey(boostParameters, 1024), "task-1"))
	deep := withKey(boostParameters, 1024)
	deep["tree_param"] = `{"max_depth": 1}`
	b.succeed(b.train("task-3", "HeteroSecureBoost", deep, "task-1"))

	refused := func(guestModel, hostModel, hostData [2]string, want string) {
		t.Helper()
		name, namespace := b.output("guest", "task-1", "train_data")
		started := map[string]*process{
			"guest": b.start(b.environ("guest", "task-4", boost.PredictName, nil, map[string]string{
				"model": addressJSON(guestModel[0], guestModel[1]), "test_data": addressJSON(name, namespace),
			}, predictionOutputs)),
			"host": b.start(b.environ("host", "task-4", boost.PredictName, nil, map[string]string{
				"model":     addressJSON(hostModel[0], hostModel[1]),
				"test_data": addressJSON(hostData[0], hostData[1]),
			}, predictionOutputs)),
		}
		var codes []int
		for _, p := range started {
			codes = append(codes, p.wait(t, time.Minute))
			require.Contains(t, p.logs.String(), want)
		}
		requireFailures(t, codes...)
		b.takeCallbacks()
	}
	address := func(role, task, output string) [2]string {
		name, namespace := b.output(role, task, output)
		return [2]string{name, namespace}
	}
	aligned := address("host", "task-1", "train_data")
	model := address("guest", "task-2", "model")
	refused(model, address("host", "task-3", "model"), aligned, "are not of one training")
	refused(model, address("host", "task-2", "model"), [2]string{"test_host", "testspace"},
		"run Intersection first")
	refused(address("guest", "task-1", "train-intersection"), address("host", "task-2", "model"), aligned,
		"input model")
}
