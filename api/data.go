package api

import (
	"context"
	"io"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
)

func tableAnswer(t store.DataTable) map[string]any {
	return map[string]any{"namespace": t.Namespace, "name": t.Name, "count": t.Rows,
		"partitions": t.Partitions, "bytes": t.Bytes,
		"columns": t.Columns, "create_time": t.CreatedAt.UnixMilli(), "update_time": t.UpdatedAt.UnixMilli()}
}

// queryDatasets lists the datasets that were uploaded to this party, of one namespace or all.
func (s *Server) queryDatasets(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	tables, err := s.store.DataTables(c.UserContext(), get("namespace"))
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, t := range tables {
		if name := get("name"); name == "" || name == t.Name {
			list = append(list, tableAnswer(t))
		}
	}
	return answer(c, "success", list, nil)
}

// downloadDataset sends a dataset as one CSV file, or another output's object unchanged.
func (s *Server) downloadDataset(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	namespace, name := get("namespace"), get("name")
	if err := bfia.CheckID("namespace", namespace); err != nil {
		return err
	}
	if err := bfia.CheckID("name", name); err != nil {
		return err
	}
	rc, contentType, err := s.openData(c.UserContext(), namespace, name)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, contentType)
	c.Context().SetBodyStream(rc, -1)
	return nil
}

// openData opens a dataset as one CSV stream, or another output's only object unchanged.
func (s *Server) openData(ctx context.Context, namespace, name string) (io.ReadCloser, string, error) {
	m, err := s.datasets.Metadata(ctx, namespace, name)
	if err != nil {
		return nil, "", err
	}
	switch m.FileType {
	case "", "csv":
		rc, err := s.datasets.Open(ctx, namespace, name)
		return rc, "text/csv; charset=utf-8", err
	}
	contentType := fiber.MIMEOctetStream
	if m.FileType == "json" {
		contentType = fiber.MIMEApplicationJSON
	}
	key, err := dataset.Key(namespace, name)
	if err != nil {
		return nil, "", err
	}
	rc, err := s.blobs.Get(ctx, key+"/data_0")
	return rc, contentType, err
}
