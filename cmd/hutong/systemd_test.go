package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSystemd plays systemd: it is notified that a process is ready, is alive while it answers itself,
// and stops.
func TestSystemd(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", address)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt((200*time.Millisecond).Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", "")
	receive := func() string {
		t.Helper()
		message := make([]byte, 100)
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(20*time.Second)))
		n, err := socket.Read(message)
		require.NoError(t, err)
		return string(message[:n])
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hangs atomic.Bool
	refused := make(chan struct{}, 100)
	notifySystemd(ctx, slog.New(slog.DiscardHandler), func(context.Context) error {
		if hangs.Load() {
			refused <- struct{}{}
			return errors.New("no answer")
		}
		return nil
	})
	require.Equal(t, "READY=1", receive())
	for range 3 {
		require.Equal(t, "WATCHDOG=1", receive())
	}
	hangs.Store(true)
	for range 3 {
		<-refused
	}
	cancel()
	for message := receive(); message != "STOPPING=1"; message = receive() {
		require.Equal(t, "WATCHDOG=1", message, "of before it hung")
	}
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	_, err = socket.Read(make([]byte, 100))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout, "a process that hangs does not report itself alive")
}

// TestWithoutSystemd checks that nothing happens without systemd.
func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	notifySystemd(t.Context(), slog.New(slog.DiscardHandler), func(context.Context) error {
		t.Error("the process checks itself for nobody")
		return nil
	})
}
