package boost

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outputs"
)

// dataset holds synthetic data. Values repeat, so that gains tie. Labels depend on both sides' features.
type dataset struct {
	ids         []string
	labels      []uint8
	guest, host [][]float64 // by column
}

func makeDataset(seed uint64, rows, guestColumns, hostColumns int) dataset {
	rng := rand.New(rand.NewPCG(seed, 1))
	d := dataset{}
	columns := func(n int) [][]float64 {
		out := make([][]float64, n)
		for c := range out {
			for range rows {
				v := rng.NormFloat64()
				if c%3 == 0 {
					v = math.Round(v * 2) // few values
				}
				out[c] = append(out[c], v)
			}
		}

		if n > 2 {
			out[2] = out[1] // a duplicate column, so that all gains of the two tie
		}
		return out
	}

	d.guest, d.host = columns(guestColumns), columns(hostColumns)
	if guestColumns > 1 && hostColumns > 1 {
		d.host[1] = d.guest[1] // and another duplicate at the other side
	}
	for i := range rows {
		d.ids = append(d.ids, fmt.Sprint("row", i))
		x := d.host[0][i] + rng.NormFloat64()*0.5
		if guestColumns > 0 {
			x += d.guest[0][i] * d.host[hostColumns-1][i]
		}
		label := uint8(0)
		if x > 0 {
			label = 1
		}
		d.labels = append(d.labels, label)
	}
	return d
}

func asFeatures(columns [][]float64, side string, bins int) []*feature {
	var out []*feature
	for c, values := range columns {
		out = append(out, newFeature(side+strconv.Itoa(c), values, bins))
	}
	return out
}

// federate trains with a host over a connection.
func federate(ctx context.Context, d dataset, p Params) (*trainResult, []HostSplit, error) {
	guestEnd, hostEnd := channel.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	var result *trainResult
	var splits []HostSplit
	g.Go(func() (err error) {
		h := &host{peer: hostEnd, owner: "host.0", features: asFeatures(d.host, "h", p.Bins), params: p}
		splits, err = h.serve(ctx, d.ids)
		return err
	})
	g.Go(func() error {
		r, err := newRemote(ctx, guestEnd, "host.0", d.ids, p)
		if err != nil {
			return err
		}
		result, err = train(
			ctx, []source{newLocal("guest.0", asFeatures(d.guest, "g", p.Bins), p), r}, d.labels, p,
		)
		if err != nil {
			return err
		}
		return r.end(ctx)
	})
	return result, splits, g.Wait()
}

func testParams(t testing.TB, over map[string]string) Params {
	values := map[string]string{
		"encrypt_param":    `{"key_length": 1024}`,
		"n_iter_no_change": "false",
		"num_trees":        "3",
		"bin_num":          "8",
	}
	for k, v := range over {
		values[k] = v
	}
	p, err := ReadParams(values)
	require.NoError(t, err)
	return p
}

// TestLossless checks that federated training gives the predictions of plaintext training on the joined
// table, for several seeds, depths and parameters.
func TestLossless(t *testing.T) {
	for _, c := range []struct {
		seed                    uint64
		rows, guest, host       int
		params                  map[string]string
		hostSplits, guestSplits bool
	}{
		{1, 120, 3, 4, map[string]string{"tree_param": `{"max_depth": 1}`}, true, false},
		{2, 120, 3, 4, map[string]string{"tree_param": `{"max_depth": 3}`}, true, true},
		{3, 150, 4, 3, map[string]string{"tree_param": `{"max_depth": 5}`, "learning_rate": "0.5"},
			true, true},
		{4, 80, 0, 3, nil, true, false},
		{
			5, 100, 3, 3,
			map[string]string{
				"tree_param": `{"max_depth": 4, "min_leaf_node": 7, "min_sample_split": 20, "lambda": 0}`,
			},
			true, true,
		},
		{6, 100, 3, 3,
			map[string]string{"tree_param": `{"max_depth": 4, "min_impurity_split": 1.5}`, "num_trees": "5"},
			true, false},
		{7, 100, 5, 1, map[string]string{"bin_num": "64", "tree_param": `{"max_depth": 6}`}, true, true},
	} {
		t.Run(fmt.Sprint("seed ", c.seed), func(t *testing.T) {
			t.Parallel()
			p := testParams(t, c.params)
			d := makeDataset(c.seed, c.rows, c.guest, c.host)
			joined := append(asFeatures(d.guest, "g", p.Bins), asFeatures(d.host, "h", p.Bins)...)
			plain, err := train(t.Context(), []source{newLocal("guest.0", joined, p)}, d.labels, p)
			require.NoError(t, err)
			federated, splits, err := federate(t.Context(), d, p)
			require.NoError(t, err)
			requireSame(t, plain, federated)

			// The trees are the same node by node, with the host's numbers resolved.
			hostNodes, guestNodes := 0, 0
			for i := range plain.trees {
				require.Len(t, federated.trees[i].Nodes, len(plain.trees[i].Nodes))
				for n, want := range plain.trees[i].Nodes {
					got := federated.trees[i].Nodes[n]
					require.Equal(t, want.Rule == nil, got.Rule == nil)
					if want.Rule == nil {
						continue
					}
					feature, threshold := got.Rule.Feature, got.Rule.Threshold
					if got.Rule.Split != nil {
						require.Empty(t, feature, "the guest does not know the host's feature")
						require.Nil(t, threshold)
						split := &splits[*got.Rule.Split]
						feature, threshold = split.Feature, &split.Threshold
						hostNodes++
					} else {
						guestNodes++
					}
					require.Equal(t, want.Rule.Feature, feature)
					require.Equal(t, *want.Rule.Threshold, *threshold)
				}
			}
			require.Len(t, splits, hostNodes)
			require.Equal(t, c.hostSplits, hostNodes > 0, "host splits: %d", hostNodes)
			if c.guestSplits {
				require.Positive(t, guestNodes)
			}
		})
	}
}

func requireSame(t *testing.T, want, got *trainResult) {
	t.Helper()
	require.Len(t, got.scores, len(want.scores))
	for i := range want.scores {
		require.InDelta(t, sigmoid(want.scores[i]), sigmoid(got.scores[i]), 1e-9, "row %d", i)
	}
	require.InDeltaSlice(t, want.losses, got.losses, 1e-9)
}

// TestLosslessWithSampledFeatures does the same with features that are sampled for each tree.
func TestLosslessWithSampledFeatures(t *testing.T) {
	for _, seed := range []string{"0", "9"} {
		p := testParams(
			t,
			map[string]string{
				"subsample_feature_rate": "0.5",
				"random_seed":            seed,
				"tree_param":             `{"max_depth": 4}`,
			},
		)
		d := makeDataset(8, 100, 4, 5)
		plain, err := train(t.Context(), []source{
			newLocal("guest.0", asFeatures(d.guest, "g", p.Bins), p),
			newLocal("host.0", asFeatures(d.host, "h", p.Bins), p),
		}, d.labels, p)
		require.NoError(t, err)
		federated, _, err := federate(t.Context(), d, p)
		require.NoError(t, err)
		requireSame(t, plain, federated)
	}
}

// TestBreast trains on the guest's part of the breast data alone.
func TestBreast(t *testing.T) {
	read := func(file string) *component.Table {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "breast", file))
		require.NoError(t, err)
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "n", "t"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "n", "t", "data_0"), data, 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "n", "t", "metadata"), []byte(`{}`), 0o644))
		store, err := component.OpenStore("file://" + dir)
		require.NoError(t, err)
		table, err := component.ReadTable(t.Context(), store, component.Address{Name: "t", Namespace: "n"})
		require.NoError(t, err)
		return table
	}

	table := read("guest.csv")
	p, err := ReadParams(
		map[string]string{"learning_rate": "0.5", "num_trees": "2", "tree_param": `{"max_depth": 5}`},
	)
	require.NoError(t, err)
	labels, err := table.Labels(p.Label)
	require.NoError(t, err)
	features, err := readFeatures(table, p.Bins, p.ID, p.Label)
	require.NoError(t, err)
	require.Len(t, features, 10)
	result, err := train(t.Context(), []source{newLocal("guest.0", features, p)}, labels, p)
	require.NoError(t, err)
	alone := outputs.Measure(labels, result.scores).AUC
	require.Greater(t, alone, 0.9)
	require.Less(t, alone, 0.9985, "the guest alone is worse than both together")
}

func TestStopsEarly(t *testing.T) {
	d := makeDataset(1, 60, 3, 3)
	p := testParams(t, map[string]string{"n_iter_no_change": "True", "tol": "0.01", "num_trees": "200"})
	result, err := train(
		t.Context(), []source{newLocal("guest.0", asFeatures(d.guest, "g", 8), p)}, d.labels, p,
	)
	require.NoError(t, err)
	n := len(result.losses)
	require.Less(t, n, 200)
	require.Less(t, math.Abs(result.losses[n-2]-result.losses[n-1]), 0.01)
	require.GreaterOrEqual(t, math.Abs(result.losses[n-3]-result.losses[n-2]), 0.01)
}

// TestPureNodesAreLeaves checks that a node of one label is not split.
func TestPureNodesAreLeaves(t *testing.T) {
	labels := []uint8{0, 0, 0, 1, 1, 1}
	p := testParams(t, map[string]string{"num_trees": "1", "tree_param": `{"max_depth": 5}`})
	result, err := train(t.Context(),
		[]source{newLocal("guest.0", []*feature{newFeature("x", []float64{1, 2, 3, 4, 5, 6}, 8)}, p)}, labels,
		p)
	require.NoError(t, err)
	require.Len(t, result.trees[0].Nodes, 3)
	require.Equal(t, 3.0, *result.trees[0].Nodes[0].Rule.Threshold)
}

// TestRefusesTheOtherSide checks that each side detects wrong data of the other one.
func TestRefusesTheOtherSide(t *testing.T) {
	d := makeDataset(1, 40, 2, 2)
	p := testParams(t, nil)
	run := func(change func(h *host), ids []string) error {
		guestEnd, hostEnd := channel.Pipe()
		g, ctx := errgroup.WithContext(t.Context())
		g.Go(func() error {
			h := &host{peer: hostEnd, owner: "host.0", features: asFeatures(d.host, "h", p.Bins), params: p}
			change(h)
			_, err := h.serve(ctx, ids)
			return err
		})
		g.Go(func() error {
			r, err := newRemote(ctx, guestEnd, "host.0", d.ids, p)
			if err == nil {
				_, err = train(ctx, []source{r}, d.labels, p)
			}
			if err == nil {
				err = r.end(ctx)
			}
			return err
		})
		return g.Wait()
	}

	require.NoError(t, run(func(*host) {}, d.ids))

	var shared *channel.Error
	err := run(func(h *host) { h.params.Bins++ }, d.ids)
	require.ErrorContains(t, err, "different parameters")
	require.True(t, errors.As(err, &shared), "both sides may know")

	swapped := append([]string{d.ids[1], d.ids[0]}, d.ids[2:]...)
	require.ErrorContains(t, run(func(*host) {}, swapped), "run Intersection first")
	require.ErrorContains(t, run(func(*host) {}, d.ids[1:]), "run Intersection first")

	err = run(func(h *host) { h.peer = tamperer{h.peer} }, d.ids)
	require.ErrorContains(t, err, "histograms of host.0")

	err = run(func(h *host) {
		h.features[0] = newFeature("long", make([]float64, 40), 2)
		h.features[0].cuts = make([]float64, 50)
	}, d.ids)
	require.ErrorContains(t, err, "has 51 bins")
}

// tamperer swaps ciphertexts of histograms.
type tamperer struct{ Peer }

func (l tamperer) Send(ctx context.Context, step string, head any, body []byte) error {
	if ans, ok := head.(answer); ok && len(ans.Filled) > 0 {
		if len(body) < 2*256 {
			return errors.New("the test requires two ciphertexts")
		}
		body = append(append([]byte(nil), body[256:]...), body[:256]...)
	}
	return l.Peer.Send(ctx, step, head, body)
}
