package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/model"
)

// recordModels writes the models among the outputs of a part, with what made them: the job's document, the
// images, and the datasets of this role from which the task learned.
func recordModels(ctx context.Context, db *store.Store, blobs blob.Store, req PartRequest,
	outputs []bfia.Binding, at time.Time) error {
	if len(outputs) == 0 {
		return nil
	}
	record, err := JobRecord(ctx, db, req.Key.JobID)
	if err != nil {
		return err
	}
	row, err := db.Task(ctx, req.Key.Row())
	if err != nil {
		return err
	}
	images, err := usedImages(record, row)
	if err != nil {
		return err
	}
	datasets, err := trainedFrom(ctx, db, record.Document, req)
	if err != nil {
		return err
	}

	var models []store.Model
	for _, out := range outputs {
		files, err := model.Files(ctx, blobs, out.Address)
		if err != nil {
			return fmt.Errorf("failed to read model %s of task %s: %w", out.Port, req.TaskID, err)
		}
		digest, bytes := model.Digest(files)
		models = append(models, store.Model{JobID: req.Key.JobID, TaskName: req.Key.Task, Role: req.Part.Role,
			RoleIndex: req.Part.Index, Key: out.Key, Type: out.Type, Port: out.Port, Component: row.Component,
			Provider: row.Provider, Version: row.Version, Images: images, Datasets: datasets,
			Document: record.Document.Bytes(), Namespace: out.Address.Namespace, Name: out.Address.Name,
			Bytes: bytes, SHA256: digest, CreatedAt: at})
	}
	return db.PutModels(ctx, models)
}

// usedImages returns the ids of the images of which a part's container ran one, or their references, or its
// command.
func usedImages(record *store.JobRecord, t store.Task) ([]string, error) {
	var images []string
	for _, p := range record.Registry.Entries(t.Provider, t.Version, t.Component) {
		image, err := ImageInJob(record, p, t.Component)
		if err != nil {
			return nil, err
		}
		images = append(images, image.Alternatives()...)
		if image.Reference == "" {
			var m bfia.Metadata
			if err := json.Unmarshal(p.Metadata, &m); err != nil {
				return nil, fmt.Errorf("failed to read the metadata of provider %s:%s: %w", p.Name, p.Version,
					err)
			}
			images = append(images, strings.Join(m.Command, " "))
		}
	}
	return images, nil
}

// trainedFrom returns the uploaded datasets that a role read in a task and in those on which it depends, as
// namespace#name@generation.
func trainedFrom(ctx context.Context, db *store.Store, doc *bfia.Document, req PartRequest) ([]string,
	error) {
	rows, err := db.TasksNamed(ctx, req.Key.JobID, doc.DAG.Ancestors(req.Key.Task)...)
	if err != nil {
		return nil, fmt.Errorf("failed to read the tasks of job %s: %w", req.Key.JobID, err)
	}
	var datasets []string
	for _, t := range rows {
		if t.Dataset != "" && t.Role == req.Part.Role && t.RoleIndex == req.Part.Index {
			datasets = append(datasets, t.Dataset+"@"+t.DatasetGeneration)
		}
	}
	return datasets, nil
}
