package dataset

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// rows generates a CSV file while it is read: ascending ids, and columns of numbers.
type rows struct {
	left int64 // bytes, about
	cols int
	n    uint64
	buf  []byte
}

func (r *rows) Read(p []byte) (int, error) {
	if len(r.buf) == 0 {
		if r.left <= 0 {
			return 0, io.EOF
		}
		r.buf = r.buf[:0:cap(r.buf)]
		if r.n == 0 {
			r.buf = append(r.buf, "id"...)
			for c := range r.cols {
				r.buf = fmt.Appendf(r.buf, ",x%d", c)
			}
			r.buf = append(r.buf, '\n')
		}
		for len(r.buf) < 64<<10 {
			r.n++
			r.buf = strconv.AppendUint(r.buf, r.n, 10)
			h := r.n * 0x9e3779b97f4a7c15
			for range r.cols {
				h ^= h >> 29
				h *= 0xbf58476d1ce4e5b9
				r.buf = append(r.buf, ",0."...)
				r.buf = strconv.AppendUint(r.buf, h>>40, 10)
			}
			r.buf = append(r.buf, '\n')
		}
		r.left -= int64(len(r.buf))
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// TestMain lets the tests below run an upload in a child process.
func TestMain(m *testing.M) {
	if os.Getenv("HUTONG_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func child() error {
	ctx := context.Background()
	blobs, err := blob.Open(ctx, os.Getenv("HUTONG_TEST_CHILD"))
	if err != nil {
		return err
	}
	number := func(name string) int {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			panic(name + ": " + err.Error())
		}
		return n
	}
	size := int64(number("MIB")) << 20
	var file io.Reader = &rows{left: size, cols: number("COLS")}
	if os.Getenv("HANG") != "" {
		file = io.MultiReader(file, readFunc(func([]byte) (int, error) {
			fmt.Println("hanging")
			select {}
		}))
	}
	database, err := store.Open(ctx, os.Getenv("HUTONG_TEST_DATABASE"))
	if err != nil {
		return err
	}
	if err := database.Migrate(ctx); err != nil {
		return err
	}
	begun := time.Now()
	table, err := New(
		blobs,
		database,
	).Ingest(ctx, IngestRequest{Namespace: "n", Name: "d", Head: true, Partitions: number("PARTS"),
		ExtendSID: true}, file)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	fmt.Printf("%d rows, %.1f s, %.0f MiB/s\n", table.Rows, took.Seconds(), float64(size>>20)/took.Seconds())
	return nil
}

func childCommand(t *testing.T, address, database string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(
		append(os.Environ(), "HUTONG_TEST_CHILD="+address, "HUTONG_TEST_DATABASE="+database),
		env...)
	return cmd
}

// The memory of an upload does not depend on its size. HUTONG_TEST_INGEST_MIB makes it larger than 256 MiB.
func TestMemoryIsBounded(t *testing.T) {
	if raceEnabled {
		t.Skip(
			"the race detector's own memory is many times the program's; 'make test' runs this also " +
				"without it",
		)
	}
	mib := os.Getenv("HUTONG_TEST_INGEST_MIB")
	if mib == "" {
		mib = "256"
	}
	for _, c := range []struct{ name, parts, cols string }{{"one partition", "1", "0"}, {"many partitions",
		"1024", "10"}} {
		t.Run(c.name, func(t *testing.T) {
			cmd := childCommand(t, "file://"+t.TempDir(), storetest.SQLite(t), "MIB="+mib, "PARTS="+c.parts,
				"COLS="+c.cols)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10 // of KiB
			t.Logf("%s MiB: %s, at most %d MiB of memory", mib, strings.TrimSpace(string(out)), peak)
			require.Less(t, peak, int64(200))
		})
	}
}

// A process that is killed in the middle of an upload leaves the dataset as it was. Sweep removes the
// orphans.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, blobs := folder(t)
	address := storetest.SQLite(t)
	rows := storetest.Open(t, address)
	d := New(blobs, rows)
	_, err := d.Ingest(ctx, IngestRequest{Namespace: "n", Name: "d", Head: true},
		strings.NewReader("id,x\nold,1\n"))
	require.NoError(t, err)
	place, err := blobs.Path("n")
	require.NoError(t, err)
	root := filepath.Dir(place)
	cmd := childCommand(t, "file://"+root, address, "MIB=8", "PARTS=4", "COLS=3", "HANG=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hanging\n", line)
	stages := func() int {
		entries, err := os.ReadDir(filepath.Join(root, ".tmp"))
		require.NoError(t, err)
		return len(entries)
	}
	require.NoError(t, blobs.Sweep(ctx, 0))
	require.Equal(t, 1, stages(), "its process is alive")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, stages())
	require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))
	require.NoError(t, d.Sweep(ctx, time.Hour))
	require.Equal(t, 1, stages(), "it is younger than an hour")
	require.NoError(t, d.Sweep(ctx, 0))
	require.Zero(t, stages())
	claimed, err := rows.ClaimRemovableGenerations(ctx, time.Now())
	require.NoError(t, err)
	require.Empty(t, claimed, "the sweep removed the row of the killed upload")
	require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))
}
