package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
)

// RecordOutputs writes the outputs of a part that are in the storage: of those that the job's record
// declares, all that the container wrote. An output that this party can't read, or data that is not whole, is
// a refusal that names the object.
func RecordOutputs(ctx context.Context, db *store.Store, blobs blob.Store, req PartRequest,
	at time.Time) error {
	spec, err := ContainerSpec(ctx, db, req.Key, req.Part, req.TaskID)
	if err != nil {
		return err
	}
	if err := checkSpace(ctx, blobs, spec.Outputs); err != nil {
		return err
	}

	var rows []store.Output
	var models []bfia.Binding
	for _, out := range spec.Outputs {
		objects, err := readableOutput(ctx, blobs, out.Address)
		if errors.Is(err, fs.ErrPermission) {
			return bfia.Errorf(bfia.CodeRefused,
				"output %s: this party can't read what the container wrote: %v",
				out.Port, err)
		}
		if err != nil {
			return fmt.Errorf("failed to read output %s of task %s: %w", out.Port, req.TaskID, err)
		}
		if bfia.IsModel(out.Type) {
			models = append(models, out) // also if it is empty, which a later job must know
		}
		if len(objects) == 0 {
			continue
		}
		if err := checkWhole(ctx, blobs, out, objects); err != nil {
			return err
		}
		var bytes int64
		for _, o := range objects {
			bytes += o.Size
		}
		rows = append(rows, store.Output{JobID: req.Key.JobID, TaskName: req.Key.Task, Role: req.Part.Role,
			RoleIndex: req.Part.Index,
			Type:      out.Type, Key: out.Key, Port: out.Port, TaskID: req.TaskID,
			Namespace: out.Address.Namespace, Name: out.Address.Name, Bytes: bytes, CreatedAt: at})
	}

	if err := recordModels(ctx, db, blobs, req, models, at); err != nil {
		return err
	}
	return db.PutOutputs(ctx, rows)
}

// StorageFullMessage is why a part fails although its container ended well.
const StorageFullMessage = "the storage has no space left on its disk, so the outputs may be incomplete"

// probeBytes is the size of an object that takes a block of any disk.
const probeBytes = 4 << 10

// checkSpace refuses outputs if the storage is full at their end: a component that ignores failed writes may
// have left incomplete outputs that look like whole ones.
func checkSpace(ctx context.Context, blobs blob.Store, outputs []bfia.Binding) error {
	if len(outputs) == 0 {
		return nil
	}
	key := "_probe/" + uuid.NewString()
	if err := blobs.Put(ctx, key, bytes.NewReader(make([]byte, probeBytes))); blob.IsStorageFull(err) {
		return bfia.Wrap(bfia.CodeRefused, err, StorageFullMessage)
	} else if err != nil {
		return fmt.Errorf("failed to check whether the storage has space: %w", err)
	}
	return blobs.Delete(ctx, key)
}

// checkWhole checks that data which a container wrote can be downloaded and read by the next task.
func checkWhole(ctx context.Context, blobs blob.Store, out bfia.Binding, objects []blob.Info) error {
	if !bfia.SameFamily(out.Type, "dataset") {
		return nil
	}
	err := dataset.CheckWritten(ctx, blobs, out.Address.Namespace+"/"+out.Address.Name, objects)
	switch bfia.CodeOf(err) {
	case bfia.CodeOK:
		return nil
	case bfia.CodeConflict:
		return bfia.Errorf(bfia.CodeRefused, "output %s: %s", out.Port, bfia.MessageOf(err))
	}
	return fmt.Errorf("failed to check output %s: %w", out.Port, err)
}

// readableOutput returns the objects of an output. It fails if one can't be read.
func readableOutput(ctx context.Context, blobs blob.Store, address bfia.Address) ([]blob.Info, error) {
	objects, err := blobs.List(ctx, address.Namespace+"/"+address.Name)
	if err != nil {
		return nil, err
	}
	if _, local := blob.Folder(blobs); !local {
		return objects, nil
	}
	for _, o := range objects { // a container may have written files that only its own user can read
		if _, err := blobs.Stat(ctx, o.Key); err != nil {
			return nil, err
		}
	}
	return objects, nil
}
