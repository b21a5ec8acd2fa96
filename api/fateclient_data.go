package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
)

// fateUpload returns the row of an upload: the pipeline waits until it is a success. An upload is answered
// after it has ended, so every id that a client knows is one.
func (s *Server) fateUpload(c *fiber.Ctx, id string) error {
	generation, err := s.store.Generation(c.UserContext(), id)
	if err != nil {
		return unknownJob(err, id, s.Node)
	}
	at := generation.CreatedAt
	row := fateclient.NewJob(id, uploadRole, uploadParty, fateclient.Success,
		fateclient.Times{Created: at, Started: &at, Ended: &at, Now: at})
	row.Description = "upload of " + bfia.Address{Namespace: generation.Namespace,
		Name: generation.Name}.String()
	row.InitiatorPartyID, row.SchedulerPartyID = s.Node, s.Node
	row.Parties = []fateclient.Parties{{Role: uploadRole, PartyID: []string{uploadParty}}}
	return okFATE(c, []fateclient.Job{row}, nil)
}

// fateDownload sends a dataset as the archive that FATE's clients unpack: data/0.csv and data/0.meta.
func (s *Server) fateDownload(c *fiber.Ctx, get func(string) string) error {
	address, err := fateAddress(get)
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Dataset, address.String())
	if err := s.checkKnown(c.UserContext(), address.Namespace, address.Name); err != nil {
		return err
	}
	rows, err := s.datasets.Open(c.UserContext(), address.Namespace, address.Name)
	if err != nil {
		return err
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return errors.Join(err, rows.Close())
	}
	return s.sendArchive(c, true, func(_ context.Context, archive *archive) error {
		return archive.addTable("data", rows)
	})
}

// archive writes an archive that FATE's clients unpack.
type archive struct {
	*tar.Writer
	server *Server
}

// sendArchive answers with a tar archive, compressed or not. fill writes its entries while they are sent. If
// it fails, the transfer breaks off, so that the client can't take a part for the whole.
func (s *Server) sendArchive(c *fiber.Ctx, compressed bool, fill func(context.Context,
	*archive) error) error {
	ctx := c.UserContext()
	path := c.Path()
	r, w := io.Pipe()
	go func() {
		var zipped io.WriteCloser = w
		if compressed {
			zipped = gzip.NewWriter(w)
		}
		to := &archive{tar.NewWriter(zipped), s}
		err := fill(ctx, to)
		if err == nil {
			err = to.Close()
		}
		if err == nil && compressed {
			err = zipped.Close()
		}
		if err != nil {
			s.logger.Warn("failed to send an archive", "path", path, "error", err)
		}
		_ = w.CloseWithError(err)
	}()
	c.Set(fiber.HeaderContentType, "application/x-tar")
	if compressed {
		c.Set(fiber.HeaderContentType, "application/gzip")
	}
	c.Context().SetBodyStream(r, -1)
	return nil
}

// addTable adds <folder>/0.csv, with a header, and <folder>/0.meta. It closes rows.
//
// The header of a tar entry has its size, so the rows go through a temporary file.
func (a *archive) addTable(folder string, rows io.ReadCloser) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	var read bytes.Buffer
	header, err := csv.NewReader(io.TeeReader(rows, &read)).Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := a.addStream(folder+"/0.csv", io.MultiReader(&read, rows)); err != nil {
		return err
	}
	meta, err := json.Marshal(map[string]any{"header": header})
	if err != nil {
		return err
	}
	return a.add(folder+"/0.meta", meta)
}

// add adds an entry.
func (a *archive) add(name string, content []byte) error {
	if err := a.WriteHeader(a.header(name, int64(len(content)))); err != nil {
		return err
	}
	_, err := a.Write(content)
	return err
}

// addStream adds an entry of unknown size.
func (a *archive) addStream(name string, content io.Reader) error {
	return a.addFunc(name, func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	})
}

// addFunc adds an entry of unknown size, which write writes.
func (a *archive) addFunc(name string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(a.server.TempDir, "download-*")
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	// Without a name the file disappears with this process, however that ends.
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	if err := write(file); err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := a.WriteHeader(a.header(name, size)); err != nil {
		return err
	}
	_, err = io.Copy(a, file)
	return err
}

func (a *archive) header(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: time.Now()}
}
