package system

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/test/testenv"
)

// skipIfFATEShort skips a test that the short form of make fate leaves out.
func skipIfFATEShort(t *testing.T) {
	t.Helper()
	if os.Getenv("HUTONG_FATE_SHORT") != "" {
		t.Skip("run 'make fate' without SHORT=1")
	}
}

// TestFATERegressions trains, predicts with and cross-validates each of FATE's regressions of two parties.
func TestFATERegressions(t *testing.T) {
	skipIfFATEShort(t)
	pair := startFATEPair(t)
	tasks := []fateTask{fatePSI, {name: "scale", component: "feature_scale",
		inputs: []string{"dataset:psi.d"}, outputs: []string{"dataset:d", "model:m"},
		parameters: map[string]any{"method": "standard"}}}
	var models []fateTask
	for _, component := range []string{"coordinated_lr", "coordinated_linr", "sshe_lr", "sshe_linr"} {
		parameters := map[string]any{"epochs": 2, "batch_size": nil,
			"init_param": map[string]any{"fit_intercept": true}}
		folds := map[string]any{"epochs": 1, "batch_size": nil,
			"cv_param": map[string]any{"n_splits": 2, "shuffle": true, "random_state": 1}}
		model := fateTask{name: component, component: component, inputs: []string{"dataset:scale.d"},
			outputs: []string{"dataset:d", "model:m", "report:r"}, parameters: parameters}
		models = append(models, model)
		tasks = append(tasks, model,
			fateTask{name: component + "_predict", component: component + "_predict",
				inputs:  []string{"dataset:scale.d", "model:" + component + ".m"},
				outputs: []string{"dataset:d"}},
			fateTask{name: component + "_cv", component: component + "_cv",
				inputs: []string{"dataset:scale.d"}, outputs: []string{"dataset:d", "report:r"},
				parameters: folds})
	}
	jobID := pair.guest.submit(fateJobOf(t, true, tasks...))
	pair.requireFATESuccess(jobID, 15*time.Minute)
	g, h := pair.guest.outputs(jobID), pair.host.outputs(jobID)
	guest := pair.guest.download(g["scale guest.0 train_output_data"])
	host := pair.host.download(h["scale host.0 train_output_data"])
	for _, model := range models {
		name := model.name
		trained := pair.guest.download(g[name+" guest.0 train_output_data"])
		predicted := pair.guest.download(g[name+"_predict guest.0 test_output_data"])
		require.InDelta(t, aucOf(t, trained), aucOf(t, predicted), 1e-6, name)
		folds := pair.guest.download(g[name+"_cv guest.0 cv_output_datas"])
		require.Len(t, readIDs(t, folds), 2*509, name)
		require.Greater(t, aucOf(t, folds), 0.85, "%s, one epoch for each fold", name)
		here, own := aucOf(t, trained), standaloneAUC(t, model, guest, host)
		t.Logf("%s: AUC %.6f here, %.6f on FATE's own federation", name, here, own)
		require.InDelta(t, own, here, 0.002, name)
	}
}

// uploadHalf uploads every other row of the guest's data, so that both parties have different rows with the
// same columns, and returns these rows.
func (n *testParty) uploadHalf(odd int, name string) string {
	n.t.Helper()
	file, err := os.ReadFile(filepath.Join(testenv.Root(n.t), "testdata", "breast", "guest.csv"))
	require.NoError(n.t, err)
	lines := bytes.Split(bytes.TrimSpace(file), []byte("\n"))
	half := append([]byte(nil), lines[0]...)
	for i, line := range lines[1:] {
		if i%2 == odd {
			half = append(append(half, '\n'), line...)
		}
	}
	half = append(half, '\n')
	require.NoError(n.t, n.client.Upload(n.t.Context(), n.url, "half.csv", half, map[string]string{
		"head": "true", "meta": `{"delimiter":",","match_id_name":"id"}`, "namespace": "demo", "name": name}))
	return string(half)
}

// torch describes a class of PyTorch as FATE's pipeline does.
func torch(module, class string, arguments map[string]any) map[string]any {
	return map[string]any{"module_name": "torch." + module, "item_name": class, "kwargs": arguments}
}

// linear describes a linear layer.
func linear(in, out int) map[string]any {
	return torch("nn", "Linear", map[string]any{"in_features": in, "out_features": out})
}

// sequence describes layers after each other, the last of which yields a probability.
func sequence(layers ...map[string]any) map[string]any {
	conf := map[string]any{}
	for i, layer := range append(layers, torch("nn", "Sigmoid", map[string]any{})) {
		conf[string(rune('0'+i))] = layer
	}
	return map[string]any{"module_name": "fate.components.components.nn.torch.base", "item_name": "load_seq",
		"kwargs": map[string]any{"seq_conf": conf}}
}

// training describes a training of a neural network, as FATE's pipeline does.
func training(epochs, batch int, more map[string]any) map[string]any {
	conf := map[string]any{"task_type": "binary", "optimizer_conf": torch("optim", "Adam",
		map[string]any{"lr": 0.01}), "training_args_conf": map[string]any{"num_train_epochs": epochs,
		"per_device_train_batch_size": batch, "logging_strategy": "epoch"}}
	for name, value := range more {
		conf[name] = value
	}
	return map[string]any{"runner_conf": conf}
}

// binaryLoss is the loss of a classification of two classes.
func binaryLoss() map[string]any { return torch("nn", "BCELoss", map[string]any{}) }

// TestFATEHomo trains models of the same columns at both parties, with an arbiter: a logistic regression and
// a neural network. It predicts with both.
func TestFATEHomo(t *testing.T) {
	skipIfFATEShort(t)
	pair := startFATEPair(t)
	guest, host := pair.guest.uploadHalf(0, "half"), pair.host.uploadHalf(1, "half")
	half := map[string]any{"dataset_id": "demo#half"}
	models := []fateTask{
		{name: "lr", component: "homo_lr", parameters: map[string]any{"epochs": 10, "batch_size": 32,
			"init_param": map[string]any{"method": "zeros", "fit_intercept": true}}},
		{name: "nn", component: "homo_nn", parameters: training(20, 64, map[string]any{"algo": "fedavg",
			"model_conf": sequence(linear(10, 16), torch("nn", "ReLU", map[string]any{}), linear(16, 1)),
			"loss_conf":  binaryLoss(), "fed_args_conf": map[string]any{"aggregate_strategy": "epoch",
				"aggregate_freq": 1, "aggregator": "secure_aggregate"}})}}
	var tasks []fateTask
	for i := range models {
		model := &models[i]
		model.guest, model.host, model.outputs = half, half, []string{"dataset:d", "model:m", "report:r"}
		tasks = append(tasks, *model, fateTask{name: model.name + "_predict", guest: half, host: half,
			component: model.component + "_predict", inputs: []string{"model:" + model.name + ".m"},
			outputs: []string{"dataset:d"}})
	}
	jobID := pair.guest.submit(fateJobOf(t, true, tasks...))
	pair.requireFATESuccess(jobID, 10*time.Minute)
	for _, model := range models {
		pair.host.requireFATEPrediction(jobID, model.name, "host.0", 269)
		here := pair.guest.requireFATEPrediction(jobID, model.name, "guest.0", 270)
		own := standaloneAUC(t, model, guest, host)
		t.Logf("%s: AUC %.6f here, %.6f on FATE's own federation", model.component, here, own)
		within := 0.002
		if model.component == "homo_nn" {
			within = 0.04 // the first weights are random
		}
		require.InDelta(t, own, here, within, model.component)
	}
}

// requireFATEPrediction checks that a model gives the rows of its training the same scores in a task of its
// own. It returns their AUC.
func (n *testParty) requireFATEPrediction(jobID, model, role string, rows int) float64 {
	n.t.Helper()
	outputs := n.outputs(jobID)
	trained := n.download(outputs[model+" "+role+" train_output_data"])
	predicted := n.download(outputs[model+"_predict "+role+" test_output_data"])
	require.Len(n.t, readIDs(n.t, predicted), rows, model)
	auc := aucOf(n.t, predicted)
	require.InDelta(n.t, aucOf(n.t, trained), auc, 1e-6, model)
	require.Greater(n.t, auc, 0.95, model)
	return auc
}

// TestFATEHeteroNN trains neural networks of which each party has a part, by both protocols of FATE: one
// shares secrets, and one hides the host's weights behind a passport.
func TestFATEHeteroNN(t *testing.T) {
	skipIfFATEShort(t)
	pair := startFATEPair(t)
	passport := map[string]any{"agg_type": "fed_pass", "layer_type": "linear", "in_channels_or_features": 20,
		"hidden_features": 20, "out_channels_or_features": 10, "passport_mode": "single",
		"passport_distribute": "gaussian"}
	shared := map[string]any{"agg_type": "hess", "guest_in_features": 10, "host_in_features": 10,
		"out_features": 10}
	network := func(name string, epochs, batch, width int, guestLayer, hostLayer map[string]any) fateTask {
		return fateTask{name: name, component: "hetero_nn", inputs: []string{"dataset:psi.d"},
			outputs: []string{"dataset:d", "model:m", "report:r"},
			guest: training(epochs, batch, map[string]any{"bottom_model_conf": linear(10, 10),
				"top_model_conf": sequence(linear(10, 1)), "loss_conf": binaryLoss(),
				"agglayer_arg_conf": guestLayer}),
			host: training(epochs, batch, map[string]any{"bottom_model_conf": linear(20, width),
				"agglayer_arg_conf": hostLayer})}
	}
	models := []fateTask{network("passport", 4, 64, 20, nil, passport),
		network("sshe", 1, 256, 10, shared, shared)}
	tasks := []fateTask{fatePSI}
	for _, model := range models {
		tasks = append(tasks, model, fateTask{name: model.name + "_predict", component: "hetero_nn_predict",
			inputs:  []string{"dataset:psi.d", "model:" + model.name + ".m"},
			outputs: []string{"dataset:d"}})
	}
	jobID := pair.guest.submit(fateJobOf(t, false, tasks...))
	pair.requireFATESuccess(jobID, 10*time.Minute)
	guest := pair.guest.download(pair.guest.outputs(jobID)["psi guest.0 output_data"])
	host := pair.host.download(pair.host.outputs(jobID)["psi host.0 output_data"])
	for _, model := range models {
		here := pair.guest.requireFATEPrediction(jobID, model.name, "guest.0", 509)
		own := standaloneAUC(t, model, guest, host)
		t.Logf("%s: AUC %.6f here, %.6f on FATE's own federation", model.name, here, own)
		require.InDelta(t, own, here, 0.04, model.name) // the first weights are random
	}
}
