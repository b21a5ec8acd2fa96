package process

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
)

func TestSuperviseEndsWhenIdle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client := &supervisor{dir: dir}
	require.False(t, client.lives())
	ended := make(chan error, 1)
	go func() { ended <- supervise(dir, 3*time.Second) }()
	require.Eventually(t, func() bool { c, err := client.dial(); return err == nil && c.Close() == nil }, 10*time.Second, time.Millisecond)
	require.True(t, client.lives())
	require.NoError(t, supervise(dir, time.Hour), "a second one leaves")
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("it stays")
	}
	require.False(t, client.lives())
	require.NoFileExists(t, dir+"/"+supervisorSocket)
}

func TestLineLogKeepsWhatIsRecent(t *testing.T) {
	t.Parallel()
	dir := folder(t.TempDir())
	log, err := newLineLog(dir, 1000)
	require.NoError(t, err)
	var all strings.Builder
	for i := range 100 {
		log.take(fmt.Appendf(nil, "%d\npart", i), time.Now())
	}
	log.finish()
	log.close()
	for _, file := range []string{olderFile, outputFile} {
		raw, err := os.ReadFile(dir.path(file))
		require.NoError(t, err)
		require.LessOrEqual(t, len(raw), 500)
		all.Write(raw)
	}
	require.True(t, strings.HasSuffix(all.String(), "Z part\n"), "the end is there, and its line is ended")
	require.Contains(t, all.String(), "Z part99\n")
	require.NotContains(t, all.String(), "Z part9\n")
}

func TestTailSeesEachLineOnce(t *testing.T) {
	t.Parallel()
	dir := folder(t.TempDir())
	var out bytes.Buffer
	tail := &tail{f: dir, w: &out}
	defer func() { tail.close() }()
	require.NoError(t, tail.read(), "nothing is there yet")
	log, err := newLineLog(dir, 1000)
	require.NoError(t, err)
	defer func() { log.close() }()
	for i := range 200 {
		log.take(fmt.Appendf(nil, "<%d>\n", i), time.Now())
		// As often as the log is moved on, or less: but for what is gone, all is seen.
		if i%7 == 0 {
			require.NoError(t, tail.read())
		}
	}
	require.NoError(t, tail.read())
	for i := range 200 {
		require.Equal(t, 1, strings.Count(out.String(), fmt.Sprintf(" <%d>\n", i)), i)
	}
}

// TestSupervisorStartsOnce asks for many starts of one run at the same moment.
func TestSupervisorStartsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := New(Options{Dir: dir, AllowedCommands: []string{"/bin/echo"}, Supervisor: []string{"/bin/true"}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- supervise(dir, 5*time.Second) }()
	require.Eventually(t, r.supervisor.lives, 10*time.Second, time.Millisecond)
	for i := range 30 {
		name := fmt.Sprint("run-", i)
		_, err := r.Create(t.Context(), driver.Spec{Name: name, Command: []string{"/bin/echo", "ran"}})
		require.NoError(t, err)
		begin := make(chan struct{})
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				<-begin
				if err := r.supervisor.start(t.Context(), name); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		group.Wait()
		_, err = r.Wait(t.Context(), name)
		require.NoError(t, err)
		var log bytes.Buffer
		require.NoError(t, r.Logs(t.Context(), name, true, &log))
		require.Equal(t, 1, strings.Count(log.String(), "ran\n"), log.String())
	}
	require.NoError(t, <-ended)
}
