package process

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
)

func TestSupervisorExitsWhenIdle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := &supervisorClient{dir: dir}
	require.False(t, client.alive())
	ended := make(chan error, 1)
	go func() { ended <- supervise(dir, 3*time.Second) }()
	require.Eventually(t, func() bool { c, err := client.dial(); return err == nil && c.Close() == nil },
		10*time.Second, time.Millisecond)
	require.True(t, client.alive())
	require.NoError(t, supervise(dir, time.Hour), "a second one exits")
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the supervisor does not exit")
	}
	require.False(t, client.alive())
	require.NoFileExists(t, dir+"/"+supervisorSocket)
}

// TestSupervisorStartsOnce requests many concurrent starts of one container.
func TestSupervisorStartsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := New(
		Options{Dir: dir, AllowedCommands: []string{"/bin/echo"}, Supervisor: []string{"/bin/true"}},
	)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- supervise(dir, 20*time.Second) }() // it must not end between two starts
	require.Eventually(t, d.supervisor.alive, 10*time.Second, time.Millisecond)
	for i := range 30 {
		name := fmt.Sprint("container-", i)
		_, err := d.Create(t.Context(), driver.Spec{Name: name, Command: []string{"/bin/echo", "ran"}})
		require.NoError(t, err)
		begin := make(chan struct{})
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				<-begin
				if err := d.supervisor.start(t.Context(), name); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		group.Wait()
		_, err = d.Wait(t.Context(), name)
		require.NoError(t, err)
		var log bytes.Buffer
		require.NoError(t, d.Logs(t.Context(), name, true, &log))
		require.Equal(t, 1, strings.Count(log.String(), "ran\n"), log.String())
	}
	require.NoError(t, <-ended)
}
