package interop

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// regressionJob returns the reference job with a logistic regression of three roles instead of the boosted
// trees.
func regressionJob(t *testing.T, d direction, arbiter string) []byte {
	job := decode(
		t,
		[]byte(
			strings.ReplaceAll(string(referenceJob(t, d.guest, d.host)), "hetero_secureboost_1",
				"hetero_lr_1"),
		),
	)
	for _, c := range job["dag"].(map[string]any)["components"].([]any) {
		if component := c.(map[string]any); component["name"] == "hetero_lr_1" {
			component["componentName"] = "HeteroLR"
		}
	}
	config := job["config"].(map[string]any)
	config["role"].(map[string]any)["arbiter"] = []string{arbiter}
	// FATE-Flow 2.2.0 fails on job_params of a role that one of the tasks, here the intersection, does not
	// have.
	config["task_params"].(map[string]any)["common"].(map[string]any)["hetero_lr_1"] = map[string]any{
		"id": "id", "label": "y", "max_iter": 2, "batch_size": -1, "learning_rate": 0.15,
		"penalty": "L2", "alpha": 0.01, "optimizer": "rmsprop",
		"encrypt_param": map[string]any{"method": "Paillier", "key_length": 1024},
	}
	return marshal(t, job)
}

// TestThreeRoles runs the regression with an arbiter at Hutong, then at FATE-Flow, in both directions. The
// arbiter's party has two roles. The guest's scores are the same wherever the arbiter and the scheduler run.
func TestThreeRoles(t *testing.T) {
	env := sharedEnvironment(t)
	var first []float64
	for _, d := range directions {
		arbiters := map[string]string{
			"the arbiter at Hutong":    hutongNode,
			"the arbiter at FATE-Flow": fateFlowNode,
		}
		for name, arbiter := range arbiters {
			t.Run(d.name+", "+name, func(t *testing.T) {
				id := d.at(env, "guest").submit(t, regressionJob(t, d, arbiter))
				d.await(t, env, id)
				env.requireSuccess(t, id, "intersect_rsa_1", "hetero_lr_1")
				env.requireNoContainers(t, id)
				var scores []float64
				for _, text := range env.requireResults(t, id, "hetero_lr_1", d) {
					score, err := strconv.ParseFloat(text, 64)
					require.NoError(t, err)
					scores = append(scores, score)
				}
				if first == nil {
					first = scores
				}
				for i := range scores {
					require.LessOrEqual(t, math.Abs(scores[i]-first[i]), 1e-6, "row %d", i)
				}
			})
		}
	}
}
