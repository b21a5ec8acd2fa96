package store_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

func TestProviders(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		p := store.Provider{
			Name: "unionpay", Version: "2.0.0", Device: "docker", Protocol: "bfia",
			Metadata: json.RawMessage(
				`{"image": "unionpay:2.0.0",  "x": 1.00, "nul": "\u0000", "q": "it's ?"}`,
			),
			Components: map[string]json.RawMessage{
				"Intersection": json.RawMessage(`{"title": "对齐算法",  "n": 12345678901234567890}`),
				"HeteroLR":     json.RawMessage(`{}`),
			},
		}
		created, err := s.PutProvider(ctx, p)
		require.NoError(t, err)
		require.True(t, created)
		got, err := s.Providers(ctx, store.ProviderFilter{})
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.WithinDuration(t, time.Now(), got[0].CreatedAt, time.Minute)
		require.Equal(t, time.UTC, got[0].CreatedAt.Location())
		want := p
		want.CreatedAt, want.UpdatedAt = got[0].CreatedAt, got[0].UpdatedAt
		require.Equal(t, want, got[0], "byte for byte")

		// Components are replaced whole, or added to.
		p.Components = map[string]json.RawMessage{"HeteroLR": json.RawMessage(`{"v": 2}`)}
		p.Protocol = "fate"
		created, err = s.PutProvider(ctx, p)
		require.NoError(t, err)
		require.False(t, created)
		p.Components = map[string]json.RawMessage{"PSI": json.RawMessage(`{}`)}
		p.Metadata = json.RawMessage(`{"image": "psi:1"}`)
		created, err = s.PutComponents(ctx, p)
		require.NoError(t, err)
		require.False(t, created)
		now, err := s.Providers(ctx, store.ProviderFilter{Name: "unionpay"})
		require.NoError(t, err)
		require.Len(t, now, 1)
		require.Equal(t,
			map[string]json.RawMessage{"HeteroLR": json.RawMessage(`{"v": 2}`), "PSI": json.RawMessage(`{}`)},
			now[0].Components)
		require.Equal(t, "fate", now[0].Protocol)
		require.Equal(t, got[0].Metadata, now[0].Metadata,
			"one component more does not change what the others run with")
		require.Equal(t, got[0].CreatedAt, now[0].CreatedAt)
		require.True(t, now[0].UpdatedAt.After(got[0].UpdatedAt))

		p.Version = "2.1.0"
		created, err = s.PutComponents(ctx, p)
		require.NoError(t, err)
		require.True(t, created)
		p.Device = "process"
		p.Components = nil
		_, err = s.PutProvider(ctx, p)
		require.NoError(t, err)
		for f, n := range map[store.ProviderFilter]int{
			{}: 3, {Name: "unionpay"}: 3, {Version: "2.1.0"}: 2, {Version: "2.1.0", Device: "process"}: 1,
			{Device: "docker"}: 2, {Name: "no"}: 0,
		} {
			got, err := s.Providers(ctx, f)
			require.NoError(t, err)
			require.Len(t, got, n, "%+v", f)
		}
		n, err := s.DeleteProvider(ctx, store.ProviderFilter{Version: "2.1.0"}, true)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		n, err = s.DeleteProvider(ctx, store.ProviderFilter{Version: "2.1.0"}, true)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = s.DeleteProvider(ctx, store.ProviderFilter{}, true)
		requireCode(t, bfia.CodeBadRequest, err)
		_, err = s.Providers(ctx, store.ProviderFilter{Name: "a\x00"})
		requireCode(t, bfia.CodeBadRequest, err)
		p.Components = map[string]json.RawMessage{"bad": json.RawMessage("\"\xff\"")}
		_, err = s.PutProvider(ctx, p)
		requireCode(t, bfia.CodeBadRequest, err)
	})
}

// Two runners resolve an image of a job at once, for two tasks, each to another id. The first one fixes it
// for both, and another image under the same name changes it no more.
func TestFixImage(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{storetest.Open(t, address), storetest.Open(t, address)}
		p := store.Provider{Name: "p", Version: "1", Device: "docker",
			Metadata:   json.RawMessage(`{"image": "p:1"}`),
			Components: map[string]json.RawMessage{"C": json.RawMessage(`{}`)}}
		_, err := stores[0].PutProvider(ctx, p)
		require.NoError(t, err)
		for _, jobID := range []string{"j", "later"} {
			require.NoError(t, stores[0].PutJobRecord(ctx, jobID, fixDocument(jobID),
				store.NewRegistry([]store.Provider{p})))
		}
		none, err := stores[0].FixImage(ctx, "j", p, "p:1", "r0", "")
		require.NoError(t, err)
		require.Empty(t, none, "a runner that lacks the image fixes nothing")

		fixed := make([]map[string]string, 8)
		var all errgroup.Group
		for n := range fixed {
			all.Go(func() error {
				var err error
				fixed[n], err = stores[n%2].FixImage(ctx, "j", p, "p:1", fmt.Sprint("r", n),
					fmt.Sprint("sha256:", n))
				return err
			})
		}
		require.NoError(t, all.Wait())
		require.Len(t, fixed[0], 1)
		for _, f := range fixed {
			require.Equal(t, fixed[0], f)
		}
		record, err := stores[1].JobRecord(ctx, "j")
		require.NoError(t, err)
		require.Equal(t, fixed[0], record.Images["p:1"])
		require.NoError(t, stores[0].PutJobRecord(ctx, "j", fixDocument("j"), record.Registry),
			"the creation may be repeated")

		// Another job of the same registration runs the same id, although its runner has another image now.
		later, err := stores[0].FixImage(ctx, "later", p, "p:1", "r9", "sha256:9")
		require.NoError(t, err)
		require.Equal(t, fixed[0], later)

		_, err = stores[0].FixImage(ctx, "unknown", p, "p:1", "r9", "sha256:9")
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
	})
}

func fixDocument(jobID string) []byte {
	return []byte(`{"job_id":"` + jobID + `","flow_id":"f","dag":{"version":"2.0","components":[
		{"name":"a","componentName":"C","provider":"p","version":"1","input":[],"output":[]}]},
		"config":{"initiator":{"role":"guest","node_id":"A"},"role":{"guest":["A"]},
			"job_params":{},"task_params":{}}}`)
}

// Two stores replace the components of a provider at once, and delete it. In the end it has the components of
// one of them.
func TestStoresRaceOnAProvider(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{storetest.Open(t, address), storetest.Open(t, address)}
		var all errgroup.Group
		for n := range 8 {
			all.Go(func() error {
				p := store.Provider{
					Name:       "p",
					Version:    "1",
					Device:     "docker",
					Metadata:   json.RawMessage(fmt.Sprint(n)),
					Components: map[string]json.RawMessage{},
				}
				for c := range 5 {
					p.Components[fmt.Sprintf("c%d-%d", n, c)] = json.RawMessage(fmt.Sprint(n))
				}
				for i := range 15 {
					if _, err := stores[n%2].PutProvider(ctx, p); err != nil {
						return err
					}
					if i%5 == 0 && i < 14 {
						if _, err := stores[n%2].DeleteProvider(ctx,
							store.ProviderFilter{Name: "p"}, true); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}
		require.NoError(t, all.Wait())
		got, err := stores[0].Providers(ctx, store.ProviderFilter{})
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Len(t, got[0].Components, 5)
		for _, d := range got[0].Components {
			require.Equal(t, string(got[0].Metadata), string(d))
		}
	})
}

func TestDataTables(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		d := store.DataTable{
			Namespace:  "experiment",
			Name:       "guest",
			Columns:    []store.Column{{Name: "id", Type: "string"}, {Name: "标签", Type: "int64"}},
			Rows:       1 << 40,
			Partitions: 16,
			Bytes:      1 << 50,
			Meta:       json.RawMessage(`{"delimiter":  ","}`),
			CreatedAt:  at,
		}
		require.NoError(t, s.PutDataTable(ctx, d))
		got, err := s.DataTable(ctx, "experiment", "guest")
		require.NoError(t, err)
		want := d
		want.CreatedAt, want.UpdatedAt, want.Project = kept, got.UpdatedAt, "default"
		require.Equal(t, want, got)
		d.Rows, d.CreatedAt = 3, time.Now()
		require.NoError(t, s.PutDataTable(ctx, d))
		got, err = s.DataTable(ctx, "experiment", "guest")
		require.NoError(t, err)
		require.EqualValues(t, 3, got.Rows)
		require.Equal(t, kept, got.CreatedAt)
		require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "a", Name: "z"}))
		list, err := s.DataTables(ctx, "")
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, "a", list[0].Namespace)
		list, err = s.DataTables(ctx, "experiment")
		require.NoError(t, err)
		require.Len(t, list, 1)
		_, err = s.DeleteDataTable(ctx, "experiment", "guest")
		require.NoError(t, err)
		_, err = s.DataTable(ctx, "experiment", "guest")
		requireCode(t, bfia.CodeNotFound, err)
	})
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		out := []store.Output{
			{
				JobID:     "j1",
				TaskName:  "b",
				Role:      "guest",
				Type:      "report",
				Key:       "report0",
				TaskID:    "id-b",
				Namespace: "n",
				Name:      "id-b",
				CreatedAt: at,
			},
			{
				JobID:     "j1",
				TaskName:  "a",
				Role:      "guest",
				Type:      "dataset",
				Key:       "train_data",
				TaskID:    "id-a",
				Namespace: "n",
				Name:      "id-a",
				Bytes:     1 << 40,
				CreatedAt: at,
			},
		}
		require.NoError(t, s.PutOutputs(ctx, out))
		require.NoError(t, s.PutOutputs(ctx, out))
		require.NoError(t, s.PutOutputs(ctx, nil))
		got, err := s.Outputs(ctx, "j1")
		require.NoError(t, err)
		out[0].CreatedAt, out[1].CreatedAt = kept, kept
		require.Equal(t, []store.Output{out[1], out[0]}, got)
		requireCode(t, bfia.CodeNotFound, s.PutOutputs(ctx, []store.Output{{JobID: "no"}}))
	})
}

func TestRunners(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		h := store.Runner{
			RunnerID:    "h1",
			NodeID:      "A",
			Devices:     []string{"docker", "process"},
			TaskQueue:   "host/h1",
			Slots:       4,
			HeartbeatAt: time.Now().Add(-time.Hour),
			CPUMilli:    1500,
			Memory:      1 << 40,
			Disk:        3,
			Labels:      map[string]string{"gpu": "1"},
		}
		require.NoError(t, s.PutRunner(ctx, h))
		require.NoError(t,
			s.PutRunner(ctx, store.Runner{RunnerID: "h0", Slots: 1,
				HeartbeatAt: time.Now().Add(-3 * time.Hour)}))
		runners, err := s.Runners(ctx, 2*time.Hour)
		require.NoError(t, err)
		want := h
		want.HeartbeatAt = want.HeartbeatAt.UTC().Truncate(time.Microsecond)
		require.Equal(t, []store.Runner{want}, runners)
		requireCode(t, bfia.CodeNotFound, s.DrainRunner(ctx, "no", true))
		require.NoError(t, s.DrainRunner(ctx, "h1", true))
		h.Slots, h.HeartbeatAt = 8, time.Time{}
		require.NoError(t, s.PutRunner(ctx, h))
		runners, err = s.Runners(ctx, time.Minute)
		require.NoError(t, err)
		require.Len(t, runners, 1)
		require.Equal(t, 8, runners[0].Slots)
		require.True(t, runners[0].Draining, "a heartbeat leaves the runner drained")
		require.NoError(t, s.DrainRunner(ctx, "h1", false))
		runners, err = s.Runners(ctx, 4*time.Hour)
		require.NoError(t, err)
		require.Len(t, runners, 2)
	})
}

// A runner's heartbeat counts by the database's clock, so a runner with a slow clock is online. How far its
// clock is off is kept.
func TestHeartbeatOfRunnerWithOtherClock(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		for id, skew := range map[string]time.Duration{"slow": -90 * time.Second, "fast": time.Hour} {
			require.NoError(t, s.PutRunner(ctx, store.Runner{RunnerID: id, Slots: 1,
				Clock: time.Now().Add(skew)}))
			runners, err := s.Runners(ctx, time.Minute)
			require.NoError(t, err)
			require.Len(t, runners, 1)
			now, err := s.Now(ctx)
			require.NoError(t, err)
			require.WithinDuration(t, now, runners[0].HeartbeatAt, 10*time.Second)
			if strings.HasPrefix(address, "postgres") { // SQLite has no clock of its own
				got := time.Duration(runners[0].ClockSkewMS) * time.Millisecond
				require.InDelta(t, skew.Seconds(), got.Seconds(), 10)
			}
			silence, found, err := s.RunnerSilence(ctx, id)
			require.NoError(t, err)
			require.True(t, found)
			require.Less(t, silence, 10*time.Second)
			require.NoError(t, s.DeregisterRunner(ctx, id))
			_, found, err = s.RunnerSilence(ctx, id)
			require.NoError(t, err)
			require.False(t, found)
		}
		require.NoError(t, s.PutRunner(ctx, store.Runner{RunnerID: "old", Slots: 1,
			HeartbeatAt: time.Now().Add(-8 * 24 * time.Hour)}))
		n, err := s.ForgetRunners(ctx, 9*24*time.Hour)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.ForgetRunners(ctx, 7*24*time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}
