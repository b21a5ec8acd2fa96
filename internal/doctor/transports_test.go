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
	one := store.Transport{Name: "one", VolumeID: "v1", Address: "a:1", HeartbeatAt: time.Now()}
	silent := store.Transport{Name: "two", VolumeID: "v2", Address: "b:1",
		HeartbeatAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Silence: time.Hour}
	stopped := store.Transport{Name: "three", VolumeID: "v3", Silence: time.Hour}

	c := judgeTransports([]store.Transport{one}, reached)
	require.Equal(t, OK, c.State)
	require.Contains(t, c.Detail, "one at a:1")
	c = judgeTransports([]store.Transport{one, silent, stopped}, reached)
	require.Equal(t, Warning, c.State)
	require.Contains(t, c.Detail, "two (volume v2) sent its last heartbeat at 2026-01-02 03:04:05Z")
	require.Contains(t, c.Detail, "three (volume v3) has stopped")
	c = judgeTransports([]store.Transport{one}, func(string) error { return errors.New("refused") })
	require.Equal(t, Warning, c.State)
	require.Contains(t, c.Detail, "failed to reach one from this machine: refused")
	require.Contains(t, judgeTransports(nil, reached).Detail, "no transport of this party is online")
}
