package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

var docker = admission.Constraints{Devices: []string{"docker"}}

func request(id string) store.ReservationRequest {
	return store.ReservationRequest{
		JobID:         id,
		SchedulerNode: "S",
		InitiatorNode: "I",
		FlowID:        "f",
		Priority:      2,
		CreatedAt:     at,
		Demand: admission.Demand{
			Parallelism: 2,
			Slots: []admission.Slot{
				{
					Role:        "guest",
					Constraints: docker,
					Resources:   bfia.Resources{CPUMilli: 1500, Memory: 1 << 40, Disk: 7},
				},
			},
		},
	}
}

func times(now time.Time) store.ReservationTimes {
	return store.ReservationTimes{
		Now:            now,
		SilentAfter:    time.Minute,
		RequestedSince: now.Add(-time.Hour),
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		require.NoError(
			t,
			s.PutRunner(
				ctx,
				store.Runner{
					RunnerID: "h",
					Devices:  []string{"docker"},
					Slots:    3,
					CPUMilli: 4000,
				},
			),
		)
		require.NoError(
			t,
			s.PutRunner(
				ctx,
				store.Runner{
					RunnerID:    "silent",
					Devices:     []string{"docker"},
					Slots:       3,
					HeartbeatAt: time.Now().Add(-time.Hour),
				},
			),
		)
		for _, id := range []string{"j1", "j2", "j3"} {
			require.NoError(
				t,
				s.CreateJob(ctx,
					store.Job{JobID: id, FlowID: "flow of " + id, InitiatorNode: "I", CreatedAt: at}, nil),
			)
		}
		var seen store.ReservationView
		slots, _, err := s.Reserve(ctx, request("j1"), times(at),
			func(a store.ReservationView) ([]string, string) { seen = a; return []string{"h", "h"}, "" })
		require.NoError(t, err)
		require.Equal(
			t,
			[]admission.Runner{
				{
					ID:      "h",
					Devices: []string{"docker"},
					Labels:  map[string]string{},
					Slots:   3,
					Total:   bfia.Resources{CPUMilli: 4000},
				},
			},
			seen.Runners,
		)
		require.Empty(t, seen.Holders)
		require.Equal(t, []store.ReservedSlot{
			{
				JobID:       "j1",
				Role:        "guest",
				Constraints: docker.Key(),
				RunnerID:    "h",
				CPUMilli:    1500,
				Memory:      1 << 40,
				Disk:        7,
			},
			{
				JobID:         "j1",
				ParallelIndex: 1,
				Role:          "guest",
				Constraints:   docker.Key(),
				RunnerID:      "h",
				CPUMilli:      1500,
				Memory:        1 << 40,
				Disk:          7,
			}}, slots)
		again, _, err := s.Reserve(ctx, request("j1"), times(at),
			func(store.ReservationView) ([]string, string) {
				t.Error("it holds a reservation")
				return nil,
					"full"
			})
		require.NoError(t, err)
		require.Equal(t, slots, again)

		for _, later := range []time.Duration{time.Second,
			time.Minute} { // asked twice, it waits since the first time
			none, _, err := s.Reserve(ctx, request("j2"), times(at.Add(later)),
				func(a store.ReservationView) ([]string, string) { seen = a; return nil, "full" })
			require.NoError(t, err)
			require.Empty(t, none)
		}
		require.Equal(t, []admission.Job{{JobID: "j1", Initiator: "I", Flow: "flow of j1", Created: kept}},
			seen.Holders)
		require.Equal(t, 2, seen.UsedSlots)
		require.Empty(t, seen.Waiting, "but for the one that asks")
		_, _, err = s.Reserve(ctx, request("j3"), times(at),
			func(a store.ReservationView) ([]string, string) { seen = a; return nil, "full" })
		require.NoError(t, err)
		require.Equal(t, 2, seen.Runners[0].UsedSlots)
		require.Equal(t, bfia.Resources{CPUMilli: 3000, Memory: 2 << 40, Disk: 14}, seen.Runners[0].Used)
		require.Len(t, seen.Waiting, 1)
		require.Equal(
			t,
			admission.Request{
				Job:    admission.Job{JobID: "j2", Initiator: "I", Flow: "f", Priority: 2, Created: kept},
				Demand: request("j2").Demand,
			},
			seen.Waiting[0].AdmissionRequest(),
		)

		uses, err := s.RunnerUses(ctx)
		require.NoError(t, err)
		require.Equal(t, "h", uses[0].RunnerID)
		require.Equal(t, []int64{2, 3000, 2 << 40, 14},
			[]int64{int64(uses[0].UsedSlots), uses[0].UsedCPUMilli, uses[0].UsedMemory, uses[0].UsedDisk})

		for range 2 { // the same again changes nothing
			require.NoError(t, s.ReleaseReservation(ctx, "j1"))
			view, err := s.ReservationView(ctx, times(at))
			require.NoError(t, err)
			require.Zero(t, view.UsedSlots)
			require.Empty(t, view.Holders)
			require.Len(t, view.Waiting, 2)
			require.Equal(t, []string{"j2", "j3"}, []string{view.Waiting[0].JobID, view.Waiting[1].JobID})
		}
		require.NoError(t, s.ReleaseReservation(ctx, "j2"))
		_, _, err = s.Reserve(ctx, request("j3"), times(at),
			func(a store.ReservationView) ([]string, string) { seen = a; return nil, "full" })
		require.NoError(t, err)
		require.Empty(t, seen.Waiting, "j2 no longer waits")
		_, waited, err := s.Reserve(ctx, request("j3"), times(at),
			func(store.ReservationView) ([]string, string) { return []string{"h"}, "" })
		require.NoError(t, err)
		require.True(t, waited)
		_, waited, err = s.Reserve(ctx, request("j2"), times(at),
			func(store.ReservationView) ([]string, string) { return []string{"h"}, "" })
		require.NoError(t, err)
		require.False(t, waited)
		_, _, err = s.Reserve(ctx, request("no"), times(at),
			func(store.ReservationView) ([]string, string) { return nil, "full" })
		requireCode(t, bfia.CodeNotFound, err)
	})
}

// Requests at the same moment, from several processes, never share a slot.
func TestReserveAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{storetest.Open(t, address), storetest.Open(t, address)}
		require.NoError(
			t,
			stores[0].PutRunner(ctx,
				store.Runner{RunnerID: "h", Devices: []string{"docker"}, Slots: 4}),
		)
		var all sync.WaitGroup
		for i := range 16 {
			id := fmt.Sprintf("j%02d", i)
			require.NoError(t, stores[0].CreateJob(ctx, store.Job{JobID: id, CreatedAt: at}, nil))
			all.Go(func() {
				own := request(id)
				_, _, err := stores[i%2].Reserve(ctx, own, times(at),
					func(a store.ReservationView) ([]string, string) {
						p := admission.Party{Runners: a.Runners, Running: a.Holders, UsedSlots: a.UsedSlots}
						grant, _ := p.Decide(
							admission.Request{
								Job: own.AdmissionJob(),
								Demand: admission.Demand{
									Parallelism: 1,
									Slots:       []admission.Slot{{Role: "guest", Constraints: docker}},
								},
							},
							at,
						)
						return grant.Runners, "full"
					})
				assert.NoError(t, err)
			})
		}
		all.Wait()
		uses, err := stores[0].RunnerUses(ctx)
		require.NoError(t, err)
		require.Len(t, uses, 1)
		require.Equal(t, 4, uses[0].UsedSlots)
	})
}

func TestMoveSlot(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "j1", CreatedAt: at}, nil))
		for _, id := range []string{"g", "h"} {
			require.NoError(
				t,
				s.PutRunner(ctx,
					store.Runner{RunnerID: id, Devices: []string{"docker"}, Slots: 1}),
			)
		}
		slots, _, err := s.Reserve(ctx, request("j1"), times(at),
			func(store.ReservationView) ([]string, string) { return []string{"h"}, "" })
		require.NoError(t, err)
		moved, err := s.MoveSlot(ctx, slots[0], times(at), func(hosts []admission.Runner) string {
			assert.Equal(t, []int{0, 1}, []int{hosts[0].UsedSlots, hosts[1].UsedSlots})
			return "g"
		})
		require.NoError(t, err)
		require.Equal(t, "g", moved.RunnerID)
		moved, err = s.MoveSlot(ctx, slots[0], times(at), func([]admission.Runner) string { return "" })
		require.NoError(t, err)
		require.Equal(t, "g", moved.RunnerID, "no other runner has the resources")
		require.NoError(t, s.ReleaseReservation(ctx, "j1"))
		_, err = s.MoveSlot(ctx, slots[0], times(at), func([]admission.Runner) string { return "h" })
		requireCode(t, bfia.CodeNotFound, err)
	})
}
