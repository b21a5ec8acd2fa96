package restore

import (
	"context"
	"fmt"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
	"hutong/store/model"
)

// Lost is an output, a model or a dataset whose content is missing in the storage, or is not whole.
type Lost struct {
	Kind  string `json:"kind"`             // output, model or dataset
	JobID string `json:"job_id,omitempty"` // that wrote it
	Name  string `json:"name"`
	Why   string `json:"why"`
}

// The kinds of what may be lost.
const (
	lostOutput  = "output"
	lostModel   = "model"
	lostDataset = "dataset"
)

// lost compares the outputs, models and datasets of the database with the objects in the storage.
func (s *Services) lost(ctx context.Context) ([]Lost, error) {
	var all []Lost
	for last := (store.Output{}); ; {
		outputs, err := s.Store.OutputsAfter(ctx, last, batch)
		if err != nil {
			return nil, err
		}
		for _, o := range outputs {
			why, err := s.incomplete(ctx, bfia.Address{Namespace: o.Namespace, Name: o.Name}, o.Bytes)
			if err != nil {
				return nil, err
			}
			if why != "" {
				all = append(all, Lost{Kind: lostOutput, JobID: o.JobID,
					Name: fmt.Sprintf("%s.%d %s.%s", o.Role, o.RoleIndex, o.TaskName, o.Key), Why: why})
			}
		}
		if len(outputs) < batch {
			break
		}
		last = outputs[len(outputs)-1]
	}
	models, err := s.Store.Models(ctx, "")
	if err != nil {
		return nil, err
	}
	stored := model.New(s.Node, s.Blobs, s.Store)
	for _, m := range models {
		err := stored.CheckStored(ctx, m)
		switch {
		case m.Removing || err == nil:
		case bfia.CodeOf(err) == bfia.CodeNotFound:
			all = append(all, Lost{Kind: lostModel, JobID: m.JobID, Name: m.Ref().String(),
				Why: bfia.MessageOf(err)})
		default:
			return nil, err
		}
	}
	tables, err := s.Store.DataTables(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		address := dataset.GenerationAddress(t.Namespace, t.Name, t.Generation)
		why, err := s.incomplete(ctx, address, t.Bytes)
		if err != nil {
			return nil, err
		}
		if why != "" {
			all = append(all, Lost{Kind: lostDataset, Name: t.Namespace + "#" + t.Name, Why: why})
		}
	}
	return all, nil
}

// incomplete returns what is missing of the objects at an address, or "".
func (s *Services) incomplete(ctx context.Context, at bfia.Address, bytes int64) (string, error) {
	objects, err := s.Blobs.List(ctx, at.Namespace+"/"+at.Name)
	if err != nil {
		return "", fmt.Errorf("failed to list the objects of %s: %w", at, err)
	}
	var have int64
	for _, o := range objects {
		have += o.Size
	}
	switch {
	case have == bytes:
		return "", nil
	case len(objects) == 0:
		return "the storage has lost it", nil
	}
	return fmt.Sprintf("the storage has %d of its %d bytes", have, bytes), nil
}
