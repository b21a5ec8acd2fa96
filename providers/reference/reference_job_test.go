package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/boost"
	"hutong-reference/outputs"
)

// TestReferenceJob runs the job of the README on the breast data: intersection, then boosting.
func TestReferenceJob(t *testing.T) {
	for name, c := range map[string]struct {
		guest, host string
		keyBits     int
		s3          bool
	}{
		"two nodes": {"JG0100001100000010", "JG0100001200000020", 2048, false},
		"one node":  {"JG0100001100000010", "JG0100001100000010", 1024, false},
		"S3":        {"JG0100001100000010", "JG0100001200000020", 1024, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTestEnv(t, pair(c.guest, c.host))
			if c.s3 {
				useS3(b)
			}
			b.upload("guest", "guest.csv", 3)
			b.upload("host", "host.csv", 1)
			b.succeed(b.intersection("task-1"))

			guest := b.readCSV("guest", "task-1", "train_data")
			host := b.readCSV("host", "task-1", "train_data")
			require.Len(t, guest, 510)
			require.Equal(t, column(guest, 0), column(host, 0), "the rows of both sides match")
			require.Equal(t, "id,y,x0,x1,x2,x3,x4,x5,x6,x7,x8,x9", strings.Join(guest[0], ","))
			require.Len(t, host[0], 21)
			var counts map[string]any
			b.readJSON("guest", "task-1", "train-intersection", &counts)
			require.Equal(t, 509.0, counts["intersect_count"])
			require.Equal(t, 539.0, counts["partner_count"])

			b.succeed(b.train("task-2", "HeteroSecureBoost", withKey(boostParameters, c.keyBits), "task-1"))
			b.checkBoost("task-2", guest, host)
			b.checkSecrecy(guest, host, c.keyBits)
			require.Empty(t, b.transport.MissingHeaders())
			require.Zero(t, b.transport.Unread())
		})
	}
}

// withKey adds a Paillier key length to parameters. Short keys make tests faster.
func withKey(parameters map[string]string, bits int) map[string]string {
	out := maps.Clone(parameters)
	out["encrypt_param"] = fmt.Sprintf(`{"method": "Paillier", "key_length": %d}`, bits)
	return out
}

func (b *testEnv) checkBoost(task string, guest, host [][]string) {
	t := b.t
	var auc, ks struct {
		Value     float64
		Threshold float64
		Curve     []outputs.Point
	}
	b.readJSON("guest", task, "train-auc", &auc)
	b.readJSON("guest", task, "train-ks", &ks)
	t.Logf("auc %.4f ks %.4f", auc.Value, ks.Value)
	require.GreaterOrEqual(t, auc.Value, 0.99)
	require.Less(t, auc.Value, 1.0000001)
	require.Greater(t, ks.Value, 0.9)
	require.NotEmpty(t, ks.Curve)

	predictions := b.readCSV("guest", task, "train_data")
	require.Equal(t, []string{"id", "y", "predict_score", "predict_result"}, predictions[0])
	require.Equal(t, column(guest, 0), column(predictions, 0))
	require.Equal(t, column(host, 0), column(b.readCSV("host", task, "train_data"), 0))

	// The AUC by its definition: the probability that a row of label 1 scores above a row of label 0.
	var ones, zeros []float64
	for _, row := range predictions[1:] {
		score, err := strconv.ParseFloat(row[2], 64)
		require.NoError(t, err)
		require.Equal(t, row[3] == "1", score >= 0.5)
		if row[1] == "1" {
			ones = append(ones, score)
		} else {
			zeros = append(zeros, score)
		}
	}

	won := 0.0
	for _, a := range ones {
		for _, z := range zeros {
			if a > z {
				won++
			} else if a == z {
				won += 0.5
			}
		}
	}

	require.InDelta(t, won/float64(len(ones)*len(zeros)), auc.Value, 1e-12)

	// Both parts of the model together give the same scores from the raw features.
	var model boost.Model
	var hostModel boost.HostModel
	b.readJSON("guest", task, "model", &model)
	b.readJSON("host", task, "model", &hostModel)
	require.Len(t, model.Trees, 2)
	require.NotEmpty(t, hostModel.Splits, "the host's features are used")
	for i := range predictions[1:] {
		score, err := model.Score(cells(guest, i+1), boost.HostRow{Model: hostModel, Row: cells(host, i+1)})
		require.NoError(t, err)
		require.Equal(t, predictions[i+1][2], strconv.FormatFloat(score, 'g', -1, 64))
	}
	var loss struct {
		Data []struct{ Loss float64 }
	}
	b.readJSON("guest", task, "train-loss", &loss)
	require.Len(t, loss.Data, 2)
	require.Less(t, loss.Data[1].Loss, loss.Data[0].Loss)

	for _, report := range []string{"train-loss", "train-auc", "train-ks"} {
		var marker map[string]string
		b.readJSON("host", task, report, &marker)
		require.Equal(t, "host.0", marker["role"])
	}
}

func cells(rows [][]string, i int) map[string]float64 {
	out := map[string]float64{}
	for c, name := range rows[0] {
		if v, err := strconv.ParseFloat(rows[i][c], 64); err == nil {
			out[name] = v
		}
	}
	return out
}

// checkSecrecy checks that messages contain no ids, feature values or column names, and no equal ciphertexts.
func (b *testEnv) checkSecrecy(guest, host [][]string, keyBits int) {
	t := b.t
	width := keyBits / 4 // of a ciphertext in bytes
	var crossed []byte
	ciphertexts := map[string]bool{}
	for _, m := range b.transport.Messages() {
		crossed = append(append(crossed, m.Topic...), m.Payload...)
		require.Greater(t, len(m.Payload), 22)
		n := binary.BigEndian.Uint32(m.Payload[18:]) // no message here is longer than one chunk
		require.LessOrEqual(t, int(n), len(m.Payload)-22)
		head, body := m.Payload[22:22+n], m.Payload[22+n:]
		var fields map[string]any
		require.NoError(t, json.Unmarshal(head, &fields), "every message begins with a JSON head")
		for _, word := range []string{`"y"`, "label", `"x0"`, `"x12"`, "threshold", "leaf", "weight"} {
			require.NotContains(t, string(head), word)
		}
		if op := fields["op"]; op == "tree" {
			require.Len(t, body, 509*width)
			for ; len(body) > 0; body = body[width:] {
				require.False(t, ciphertexts[string(body[:width])], "ciphertexts of equal gradients differ")
				ciphertexts[string(body[:width])] = true
			}
		}
	}

	require.Len(t, ciphertexts, 2*509)
	require.False(t, bytes.Contains(crossed, []byte("wdbc")), "no raw id")
	for _, rows := range [][][]string{guest, host} {
		for _, row := range rows[1:] {
			for _, cell := range row {
				if len(cell) >= 8 { // all feature values are that long
					require.False(t, bytes.Contains(crossed, []byte(cell)), "no feature value")
				}
			}
		}
	}
}

// TestPartnerFails checks that a failure of one side ends both at once, that both log the reason, and that
// the exit code of the other side says that its partner failed.
func TestPartnerFails(t *testing.T) {
	b := newTestEnv(t, pair("A", "B"))
	b.upload("guest", "guest.csv", 1) // the host's dataset is missing
	started := b.intersection("task-1")
	guest, host := started["guest"], started["host"]
	require.Equal(t, 1, host.wait(t, time.Minute))
	require.Equal(t, exitPartner, guest.wait(t, time.Minute))
	require.Contains(t, host.logs.String(), "its metadata")
	require.Contains(t, guest.logs.String(), "host.0 failed: an internal error")
	require.NotContains(t, guest.logs.String(), strings.TrimPrefix(b.storage["host"], "file://"),
		"paths stay at their party")
	for _, c := range b.takeCallbacks() {
		require.Equal(t, "FAILED", c["status"])
		require.Equal(t, "task-1", c["task_id"])
	}
}

func TestPartnerHasOtherParameters(t *testing.T) {
	b := newTestEnv(t, pair("A", "A"))
	b.upload("guest", "guest.csv", 1)
	b.upload("host", "host.csv", 1)
	input := func(role string) map[string]string {
		return map[string]string{"train_data": addressJSON("test_"+role, "testspace")}
	}
	raw := maps.Clone(intersectionParameters)
	raw["intersect_method"] = "raw"
	guest := b.start(b.environ("guest", "task-1", "Intersection", raw, input("guest"), nil))
	host := b.start(b.environ("host", "task-1", "Intersection", intersectionParameters, input("host"), nil))
	require.Equal(t, 1, guest.wait(t, time.Minute))
	require.Equal(t, exitPartner, host.wait(t, time.Minute))
	require.Contains(t, host.logs.String(),
		`guest.0 failed: parameter intersect_method: \"raw\" is not supported; supported: rsa`)

	// Rows that do not match are detected before anything is computed.
	boostWith := func(role string) *process {
		return b.start(b.environ(role, "task-2", "HeteroSecureBoost", boostParameters, input(role), nil))
	}
	guest, host = boostWith("guest"), boostWith("host")
	requireFailures(t, guest.wait(t, time.Minute), host.wait(t, time.Minute))
	require.Contains(t, guest.logs.String(), "run Intersection first")
	require.Contains(t, host.logs.String(), "run Intersection first")
}

// TestStop stops one side while the other one waits for it.
func TestStop(t *testing.T) {
	b := newTestEnv(t, pair("A", "B"))
	b.upload("guest", "guest.csv", 1)
	b.upload("host", "host.csv", 1)
	guest := b.start(b.environ("guest", "task-1", "Intersection", intersectionParameters,
		map[string]string{"train_data": addressJSON("test_guest", "testspace")}, nil))
	require.Eventually(
		t, func() bool { return b.transport.Waiting() >= 2 }, time.Minute, 5*time.Millisecond,
		"the guest polls for the host's key and for its failure",
	)
	began := time.Now()
	require.NoError(t, guest.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 143, guest.wait(t, time.Minute))
	require.Less(t, time.Since(began), 15*time.Second)
	require.Empty(t, b.takeCallbacks(), "a stopped task sends no callback")
	require.Contains(t, guest.logs.String(), "stopped by a signal")
	require.NotContains(t, guest.logs.String(), "wdbc")

	host := b.start(b.environ("host", "task-1", "Intersection", intersectionParameters,
		map[string]string{"train_data": addressJSON("test_host", "testspace")}, nil))
	require.Equal(t, 75, host.wait(t, time.Minute), "a retryable failure")
	require.Contains(t, host.logs.String(), "guest.0 failed: stopped by a signal")
}

// TestAlone runs components that need no partner.
func TestAlone(t *testing.T) {
	b := newTestEnv(t, pair("A", "B"))
	for _, c := range []struct {
		name       string
		component  string
		parameters map[string]string
		code       int
		status     string
		log        string
	}{
		{"callback only", "CallbackOnly", nil, 0, "SUCCESS", "done"},
		{"unknown", "Magic", nil, 1, "FAILED",
			"has the components CallbackOnly, HeteroLR, HeteroLR_predict, HeteroSecureBoost, " +
				"HeteroSecureBoost_predict, Intersection, Probe, Sleep"},
		{"sleep", "Sleep", map[string]string{"seconds": "0.01"}, 0, "SUCCESS", "sleeping, second 1"},
		{"sleep wrong", "Sleep", map[string]string{"seconds": "long"}, 1, "FAILED", "parameter seconds"},
		{"crash", "Sleep", map[string]string{"seconds": "0.01", "exit_code": "7"}, 7, "",
			"exiting as parameter exit_code requires"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := b.start(b.environ("guest", "task-1", c.component, c.parameters, nil, nil))
			require.Equal(t, c.code, p.wait(t, time.Minute))
			require.Contains(t, p.logs.String(), c.log)
			got := b.takeCallbacks()
			if c.status == "" {
				require.Empty(t, got)
				return
			}
			require.Equal(
				t, []map[string]string{{"task_id": "task-1", "status": c.status, "role": "guest.0"}}, got,
			)
		})
	}
}

// requireFailures checks the exit codes of the parts of one failed task. Parts that find the fault end with
// 1, and there may be several; parts that lost such a partner before end with exitPartner.
func requireFailures(t *testing.T, codes ...int) {
	t.Helper()
	require.Contains(t, codes, 1, "no part says that the failure is its own")
	require.Subset(t, []int{1, exitPartner}, codes)
}
