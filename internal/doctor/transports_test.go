package doctor

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
)

func TestJudgeTransports(t *testing.T) {
	reached := func(string) error { return nil }
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one := store.Transport{Name: "one", VolumeID: "v1", Address: "a:1", HeartbeatAt: time.Now()}
	silent := store.Transport{Name: "two", VolumeID: "v2", Address: "b:1", HeartbeatAt: at,
		Silence: time.Hour}
	stopped := store.Transport{Name: "three", VolumeID: "v3", Address: "a:1", HeartbeatAt: at, Stopped: true}

	c := judgeTransports([]store.Transport{one, stopped}, nil, reached)
	require.Equal(t, OK, c.State, c.Detail)
	require.Contains(t, c.Detail, "one at a:1")
	c = judgeTransports([]store.Transport{one, silent, stopped}, map[string]int{"v1": 5, "v3": 2}, reached)
	require.Equal(t, Warning, c.State)
	require.Equal(t, "two (volume v2) sent its last heartbeat at 2026-01-02 03:04:05Z; three (volume v3) has "+
		"stopped at 2026-01-02 03:04:05Z; 2 jobs in progress wait for it", c.Detail)
	c = judgeTransports([]store.Transport{one}, nil, func(string) error { return errors.New("refused") })
	require.Equal(t, Warning, c.State)
	require.Contains(t, c.Detail, "failed to reach one from this machine: refused")
	require.Contains(t, judgeTransports(nil, nil, reached).Detail, "no transport of this party is online")

	same := store.Transport{Name: "four", VolumeID: "v4", Address: "a:1", HeartbeatAt: at, Single: true}
	c = judgeTransports([]store.Transport{one, same}, nil, reached)
	require.Equal(t, Warning, c.State)
	require.Equal(t, "four has the address a:1 of one; four runs without transport.several", c.Detail)
}
