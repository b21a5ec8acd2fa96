package main

import (
	"context"
	"crypto/rand"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/boost"
	"hutong-reference/lr"
)

// lrParameters holds the parameters of FATE-Flow's example.
var lrParameters = map[string]string{
	"alpha": "0.01", "batch_size": "-1", "early_stop": "diff", "id": "id",
	"init_param": `{"init_method": "zeros", "fit_intercept": "True"}`,
	"label":      "y", "learning_rate": "0.15", "max_iter": "2", "optimizer": "nesterov_momentum_sgd",
	"penalty": "L2", "tol": "0.0001",
}

// TestHeteroLR runs three roles on three nodes, on one node, and with S3 as storage.
func TestHeteroLR(t *testing.T) {
	for name, c := range map[string]struct {
		nodes map[string]string
		s3    bool
	}{
		"three nodes":              {map[string]string{"guest": "A", "host": "B", "arbiter": "C"}, false},
		"one node":                 {map[string]string{"guest": "A", "host": "A", "arbiter": "A"}, false},
		"arbiter at the guest, S3": {map[string]string{"guest": "A", "host": "B", "arbiter": "A"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTestEnv(t, c.nodes)
			if c.s3 {
				useS3(b)
			}
			b.upload("guest", "guest.csv", 3)
			b.upload("host", "host.csv", 1)
			b.succeed(b.intersection("task-1"))
			b.succeed(b.train("task-2", "HeteroLR", withKey(lrParameters, 1024), "task-1"))
			b.checkLR("task-1", "task-2", "host")
			require.Zero(t, b.transport.Unread())
			require.Empty(t, b.transport.MissingHeaders())

			// No ids are sent, and the arbiter receives only a few masked numbers.
			toArbiter := 0
			for _, m := range b.transport.Messages() {
				require.NotContains(t, string(m.Payload), "wdbc")
				if strings.HasSuffix(m.Topic, "/arbiter.0/masked") {
					toArbiter += len(m.Payload)
				}
			}
			require.Positive(t, toArbiter)
			require.Less(t, toArbiter, 509*256, "fewer numbers than rows")
		})
	}
}

// useS3 assigns each node a bucket of its own at the S3 server that HUTONG_TEST_S3 names. Nobody creates the
// arbiter's bucket in advance.
func useS3(b *testEnv) {
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		b.t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	buckets := map[string]string{}
	for role, node := range b.nodes {
		if buckets[node] == "" {
			u, err := url.Parse(address)
			require.NoError(b.t, err)
			q := u.Query()
			q.Set("bucket", "hutong-test-"+strings.ToLower(rand.Text()))
			u.RawQuery = q.Encode()
			buckets[node] = u.String()
		}

		b.storage[role] = buckets[node]
	}
}

func (b *testEnv) checkLR(from, task string, hosts ...string) {
	t := b.t
	rows := map[string][][]string{}
	models := map[string]lr.Model{}
	for _, role := range append([]string{"guest"}, hosts...) {
		rows[role] = b.readCSV(role, from, "train_data")
		var m lr.Model
		b.readJSON(role, task, "model", &m)
		require.Equal(t, numberedRole(role), m.Role)
		require.Len(t, m.Weights, strings.Count(strings.Join(rows[role][0], " "), "x"))
		models[role] = m
	}

	// All parts of the model together give the predictions from the raw features.
	predictions := b.readCSV("guest", task, "train_data")
	require.Equal(t, []string{"id", "y", "predict_score", "predict_result"}, predictions[0])
	require.Equal(t, column(rows["guest"], 0), column(predictions, 0))
	for i := range predictions[1:] {
		sum := 0.0
		for role, m := range models {
			share, err := m.Share(cells(rows[role], i+1))
			require.NoError(t, err)
			sum += share
		}
		score, err := strconv.ParseFloat(predictions[i+1][2], 64)
		require.NoError(t, err)
		require.InDelta(t, 1/(1+math.Exp(-sum)), score, 1e-6)
	}

	var auc struct{ Value float64 }
	b.readJSON("guest", task, "train-auc", &auc)
	require.Greater(t, auc.Value, 0.98)
	var loss struct {
		Metric string
		Data   []struct {
			Iteration int
			Loss      float64
		}
	}

	b.readJSON("guest", task, "train-loss", &loss)
	require.Equal(t, "loss", loss.Metric)
	require.Len(t, loss.Data, 2)
	require.InDelta(t, math.Ln2, loss.Data[0].Loss, 1e-6, "all weights start at 0")
	require.Less(t, loss.Data[1].Loss, loss.Data[0].Loss)

	require.Equal(t, [][]string{{"id"}}, b.readCSV("arbiter", task, "train_data"))
	for _, role := range append([]string{"arbiter"}, hosts...) {
		var marker map[string]any
		b.readJSON(role, task, "train-loss", &marker)
		require.Equal(t, numberedRole(role), marker["role"])
		require.NotContains(t, marker, "data")
	}
}

// TestSeveralHosts runs all three algorithms with two hosts, which share the host's columns.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	b := newTestEnv(t, map[string]string{"guest": "A", "host": "B", "host.1": "C", "arbiter": "C"})
	b.upload("guest", "guest.csv", 1)
	data, err := os.ReadFile("../../testdata/breast/host.csv")
	require.NoError(t, err)
	var left, right []string
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		cells := strings.Split(line, ",")
		left = append(left, strings.Join(cells[:12], ","))
		if i == 0 || i > 9 { // the second host does not have all rows
			right = append(right, strings.Join(append(cells[:1:1], cells[12:]...), ","))
		}
	}

	b.uploadRows("host", left, 2)
	b.uploadRows("host.1", right, 1)
	b.succeed(b.intersection("task-1"))
	ids := column(b.readCSV("guest", "task-1", "train_data"), 0)
	require.Greater(t, len(ids), 490)
	require.Less(t, len(ids), 509)
	for _, role := range []string{"host", "host.1"} {
		require.Equal(t, ids, column(b.readCSV(role, "task-1", "train_data"), 0))
	}

	b.succeed(b.train("task-2", "HeteroLR", withKey(lrParameters, 1024), "task-1"))
	b.checkLR("task-1", "task-2", "host", "host.1")

	delete(b.nodes, "arbiter")
	b.succeed(b.train("task-3", "HeteroSecureBoost", withKey(boostParameters, 1024), "task-1"))
	var model boost.Model
	b.readJSON("guest", "task-3", "model", &model)
	parts := []boost.HostRow{{}, {}}
	rows := [][][]string{b.readCSV("host", "task-1", "train_data"),
		b.readCSV("host.1", "task-1", "train_data")}
	b.readJSON("host", "task-3", "model", &parts[0].Model)
	b.readJSON("host.1", "task-3", "model", &parts[1].Model)
	require.NotEmpty(t, parts[0].Model.Splits)
	require.NotEmpty(t, parts[1].Model.Splits)
	guest := b.readCSV("guest", "task-1", "train_data")
	for i, row := range b.readCSV("guest", "task-3", "train_data")[1:] {
		for h := range parts {
			parts[h].Row = cells(rows[h], i+1)
		}
		score, err := model.Score(cells(guest, i+1), parts...)
		require.NoError(t, err)
		require.Equal(t, row[2], strconv.FormatFloat(score, 'g', -1, 64))
	}
}

// TestOneOfThreeFails checks that a failing party ends all others and sends its reason.
func TestOneOfThreeFails(t *testing.T) {
	t.Parallel()
	b := newTestEnv(t, map[string]string{"guest": "A", "host": "B", "arbiter": "C"})
	b.upload("guest", "guest.csv", 1)
	b.upload("host", "host.csv", 1) // the rows of the two do not match
	started := b.startAll(
		[]string{"guest", "host", "arbiter"}, "task-1", "HeteroLR", withKey(lrParameters, 1024),
		uploadedAddress, trainingOutputs,
	)
	var codes []int
	for role, p := range started {
		codes = append(codes, p.wait(t, time.Minute))
		require.Contains(t, p.logs.String(), "run Intersection first", role)
	}
	requireFailures(t, codes...)
	for _, c := range b.takeCallbacks() {
		require.Equal(t, "FAILED", c["status"])
	}
	for _, role := range []string{"guest", "host", "arbiter"} {
		name, namespace := b.output(role, "task-1", "model")
		_, err := b.openStore(role).Read(context.Background(), namespace+"/"+name+"/data_0")
		require.Error(t, err, "no model is written")
	}
}
