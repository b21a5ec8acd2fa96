package housekeeping

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store/blob"
)

// StorageMark is the restore mark in the storage (store.RestoreMark has that of the database).
type StorageMark struct {
	Number   int64
	MarkedAt time.Time
}

// markPrefix returns the prefix of the storage's marks. Each deployment that uses the storage has its own.
func markPrefix(deployment string) string { return "_restore/" + deployment }

// ReadStorageMark returns the mark in the storage, or zero if there is none. Each mark is an object of its
// own and the highest one counts: a process that was stopped for long while it wrote one can't set it back.
func ReadStorageMark(ctx context.Context, blobs blob.Store, deployment string) (StorageMark, error) {
	var m StorageMark
	marks, err := blobs.List(ctx, markPrefix(deployment))
	if err != nil {
		return m, fmt.Errorf("failed to read the restore mark in the storage: %w", err)
	}
	for _, object := range marks {
		number, err := strconv.ParseInt(path.Base(object.Key), 10, 64)
		if err == nil && number > m.Number {
			m = StorageMark{Number: number, MarkedAt: object.ModTime}
		}
	}
	return m, nil
}

// WriteStorageMark writes the mark in the storage, and removes earlier ones.
func WriteStorageMark(ctx context.Context, blobs blob.Store, deployment string, number int64) error {
	key := markPrefix(deployment) + "/" + strconv.FormatInt(number, 10)
	if err := blobs.Put(ctx, key, strings.NewReader("")); err != nil {
		return fmt.Errorf("failed to write the restore mark in the storage: %w", err)
	}
	marks, err := blobs.List(ctx, markPrefix(deployment))
	if err != nil {
		return fmt.Errorf("failed to list the restore marks in the storage: %w", err)
	}
	for _, object := range marks {
		if n, err := strconv.ParseInt(path.Base(object.Key), 10, 64); err != nil || n >= number {
			continue
		}
		if err := blobs.Delete(ctx, object.Key); err != nil {
			return fmt.Errorf("failed to remove an earlier restore mark in the storage: %w", err)
		}
	}
	return nil
}

// AdvanceRestoreMarkInput holds the mark that Temporal has just got.
type AdvanceRestoreMarkInput struct {
	Number int64 `json:"number"`
}

// AdvanceRestoreMark counts up the mark of the storage and then that of the database, to the one of Temporal.
// It refuses if one of them was restored meanwhile: it must not hide that.
func (a *Activities) AdvanceRestoreMark(ctx context.Context, in AdvanceRestoreMarkInput) error {
	deployment, err := a.Store.DeploymentID(ctx)
	if err != nil {
		return err
	}
	database, err := a.Store.RestoreMark(ctx)
	if err != nil {
		return err
	}
	if database.Number == in.Number {
		return nil // an earlier attempt has done it
	}
	storage, err := ReadStorageMark(ctx, a.Blobs, deployment)
	if err != nil {
		return err
	}
	// The first mark of a deployment may follow on one that was cut off.
	inStorage := storage.Number == in.Number || storage.Number == in.Number-1
	if database.Number != in.Number-1 || !inStorage {
		err := bfia.Errorf(bfia.CodeConflict, "one of the party's services was restored from a backup while the "+
			"party runs: the restore marks are %d in Temporal, %d in the database and %d in the storage; stop "+
			"the party, then run 'hutong restore finish'", in.Number, database.Number, storage.Number)
		a.Logger.Error("failed to count up the restore mark", "error", err)
		return activities.Refuse(err)
	}
	if err := WriteStorageMark(ctx, a.Blobs, deployment, in.Number); err != nil {
		return err
	}
	return a.Store.AdvanceRestoreMark(ctx, in.Number)
}
