package dataset

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

func csvOf(value string) string {
	file := "id,x\n"
	for i := range 30 {
		file += fmt.Sprintf("%d,%s\n", i, value)
	}
	return file
}

// A reader reads one upload to its end, whatever is uploaded meanwhile.
func TestOpenWhileReplaced(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *Datasets, _ blob.Store) {
		ctx := t.Context()
		req := IngestRequest{Namespace: "n", Name: "d", Head: true, Partitions: 3}
		put := func(v string) {
			_, err := d.Ingest(ctx, req, strings.NewReader(csvOf(v)))
			require.NoError(t, err)
		}
		put("old")
		before := whole(t, d, "n", "d")
		r, err := d.Open(ctx, "n", "d")
		require.NoError(t, err)
		defer r.Close()
		var first [1]byte
		_, err = io.ReadFull(r, first[:])
		require.NoError(t, err)
		put("new")
		require.NoError(t, d.Sweep(ctx, time.Hour))
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, before, string(first[:])+string(rest))
		require.NotContains(t, whole(t, d, "n", "d"), "old")
	})
}

// A dataset of another platform has no generations: a reader has one version of it or an error, never some of
// both.
func TestOpenWhileOverwritten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *Datasets, blobs blob.Store) {
		ctx := t.Context()
		put := func(v string) {
			require.NoError(t, blobs.DeletePrefix(ctx, "n/d"))
			_, err := Write(ctx, blobs,
				IngestRequest{Namespace: "n", Name: "d", Head: true, Partitions: 3, ExtendSID: true}, "",
				strings.NewReader(csvOf(v)))
			require.NoError(t, err)
		}
		put("old")
		r, err := d.Open(ctx, "n", "d")
		require.NoError(t, err)
		defer r.Close()
		var first [1]byte
		_, err = io.ReadFull(r, first[:])
		require.NoError(t, err)
		put("new")
		rest, err := io.ReadAll(r)
		requireCode(t, bfia.CodeConflict, err)
		require.NotContains(t, string(rest), "new")
		require.NotContains(t, whole(t, d, "n", "d"), "old")
	})
}

// Uploads of one name at the same moment, by several processes: the dataset is one of them, whole, and so is
// what readers read meanwhile. The objects of the others are removed.
func TestUploadsAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		blobs, err := blob.Open(ctx, "file://"+filepath.Join(t.TempDir(), "storage"))
		require.NoError(t, err)
		processes := []*Datasets{
			New(blobs, storetest.Open(t, address)),
			New(blobs, storetest.Open(t, address)),
		}
		upload := func(n, i int) error {
			_, err := processes[n%2].Ingest(ctx,
				IngestRequest{Namespace: "n", Name: "d", Head: true, Partitions: 3},
				strings.NewReader(csvOf(fmt.Sprintf("v%d-%d", n, i))))
			return err
		}
		wholeUpload := func(text string) error {
			_, rest, _ := strings.Cut(text, ",x\n")
			_, value, _ := strings.Cut(rest[:strings.Index(rest, "\n")], ",")
			if lines := strings.Count(text, "\n"); lines != 31 || strings.Count(text, ","+value+"\n") != 30 {
				return fmt.Errorf("a mixture of %d lines:\n%s", lines, text)
			}
			return nil
		}
		require.NoError(t, upload(0, -1))

		var all errgroup.Group
		for n := range 6 {
			all.Go(func() error {
				for i := range 4 {
					if err := upload(n, i); err != nil {
						return err
					}
				}
				return nil
			})
			all.Go(func() error {
				for range 10 {
					r, err := processes[n%2].Open(ctx, "n", "d")
					if err != nil {
						return err
					}
					text, err := io.ReadAll(r)
					if err != nil {
						return err
					}
					if err := wholeUpload(string(text)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, all.Wait())
		require.NoError(t, wholeUpload(whole(t, processes[0], "n", "d")))
		require.NoError(t, processes[1].Sweep(ctx, 0))
		objects, err := blobs.List(ctx, "")
		require.NoError(t, err)
		require.Len(t, objects, 4, "of the current generation")
		require.NoError(t, wholeUpload(whole(t, processes[1], "n", "d")))
	})
}

// An older generation stays where a container has it mounted, until no job needs it and it is old enough.
func TestSweepKeepsWhatJobsRead(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		blobs, err := blob.Open(ctx, "file://"+filepath.Join(t.TempDir(), "storage"))
		require.NoError(t, err)
		rows := storetest.Open(t, address)
		d := New(blobs, rows)
		upload := func(v string) store.DataTable {
			table, err := d.Ingest(ctx, IngestRequest{Namespace: "n", Name: "d", Head: true},
				strings.NewReader("id,x\n1,"+v+"\n"))
			require.NoError(t, err)
			return table
		}
		old := upload("old")
		key := store.TaskKey{JobID: "j1", Name: "a", Role: "guest"}
		require.NoError(t, rows.CreateJob(ctx, store.Job{JobID: "j1"},
			[]store.Task{{Name: "a", Role: "guest", Dataset: "n#d"}}))
		dir, err := blobs.(*blob.File).Path("n/d." + old.Generation)
		require.NoError(t, err)
		mount, err := os.OpenRoot(dir) // keeps the folder open as a bind mount does
		require.NoError(t, err)
		defer mount.Close()
		info, err := os.Stat(filepath.Join(dir, "data_0"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "readable for a container's user")

		renewed := upload("new")
		readable := func() {
			t.Helper()
			text, err := mount.ReadFile("data_0")
			require.NoError(t, err)
			require.Equal(t, "id,x\n1,old\n", string(text))
		}
		require.NoError(t, d.Sweep(ctx, 0))
		readable()
		require.NoError(t, rows.UpdateJob(ctx, "j1", bfia.JobFinished, "", time.Now()))
		require.NoError(t, d.Sweep(ctx, time.Hour))
		readable()

		// A job that is run again reads the same, as long as it exists.
		require.NoError(t, rows.ReopenJob(ctx, "j1"))
		row, err := rows.Task(ctx, key)
		require.NoError(t, err)
		require.Equal(t, old.Generation, row.DatasetGeneration)
		require.NoError(t, d.Sweep(ctx, 0))
		readable()

		require.NoError(t, rows.UpdateJob(ctx, "j1", bfia.JobFinished, "", time.Now()))
		require.NoError(t, d.Sweep(ctx, 0))
		_, err = mount.ReadFile("data_0")
		require.ErrorIs(t, err, os.ErrNotExist)
		require.Equal(t, "id,x\n1,new\n", whole(t, d, "n", "d"))
		require.NoError(t, rows.ReopenJob(ctx, "j1"))
		row, err = rows.Task(ctx, key)
		require.NoError(t, err)
		require.Equal(t, renewed.Generation, row.DatasetGeneration, "it reads the current generation")
	})
}

// A process that dies between the last object and the row has changed nothing; the orphan is removed.
func TestDiesBeforeTheRow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *Datasets, blobs blob.Store) {
		ctx := t.Context()
		req := IngestRequest{Namespace: "n", Name: "d", Head: true}
		_, err := d.Ingest(ctx, req, strings.NewReader("id,x\nold,1\n"))
		require.NoError(t, err)
		require.NoError(t, d.rows.CreateGeneration(ctx, "n", "d", "dead", time.Now()))
		table, err := Write(ctx, blobs, req, "dead", strings.NewReader("id,x\nnew,1\n"))
		require.NoError(t, err)
		require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))

		require.NoError(t, d.Sweep(ctx, time.Hour))
		objects, err := blobs.List(ctx, "")
		require.NoError(t, err)
		require.Len(t, objects, 4, "it may be at work")
		require.NoError(t, d.Sweep(ctx, 0))
		objects, err = blobs.List(ctx, "")
		require.NoError(t, err)
		require.Len(t, objects, 2)
		require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))
		requireCode(t, bfia.CodeConflict, d.rows.PutDataTable(ctx, table)) // it was alive after all
		require.Equal(t, "id,x\nold,1\n", whole(t, d, "n", "d"))
	})
}
