package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// RecordOutputs writes the outputs of a part that are in the storage: of those that the job's record
// declares, all that the container wrote. An output that this party can't read is a refusal that names the
// object.
func RecordOutputs(ctx context.Context, db *store.Store, blobs blob.Store, req PartRequest,
	at time.Time) error {
	spec, err := ContainerSpec(ctx, db, req.Key, req.Part, req.TaskID)
	if err != nil {
		return err
	}

	var rows []store.Output
	for _, out := range spec.Outputs {
		objects, bytes, err := readableOutput(ctx, blobs, out.Address)
		if errors.Is(err, fs.ErrPermission) {
			return bfia.Errorf(bfia.CodeRefused,
				"output %s: this party can't read what the container wrote: %v",
				out.Port, err)
		}
		if err != nil {
			return fmt.Errorf("failed to read output %s of task %s: %w", out.Port, req.TaskID, err)
		}
		if objects == 0 {
			continue
		}
		rows = append(rows, store.Output{JobID: req.Key.JobID, TaskName: req.Key.Task, Role: req.Part.Role,
			RoleIndex: req.Part.Index,
			Type:      out.Type, Key: out.Key, Port: out.Port, TaskID: req.TaskID,
			Namespace: out.Address.Namespace, Name: out.Address.Name, Bytes: bytes, CreatedAt: at})
	}

	return db.PutOutputs(ctx, rows)
}

// readableOutput returns the number of objects of an output, and their size. It fails if one can't be read.
func readableOutput(ctx context.Context, blobs blob.Store, address bfia.Address) (objects int, bytes int64,
	err error) {
	list, err := blobs.List(ctx, address.Namespace+"/"+address.Name)
	if err != nil {
		return 0, 0, err
	}
	_, local := blobs.(*blob.File)
	for _, o := range list {
		bytes += o.Size
		if !local { // a container may have written files that only its own user can read
			continue
		}
		if _, err := blobs.Stat(ctx, o.Key); err != nil {
			return 0, 0, err
		}
	}
	return len(list), bytes, nil
}
