package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newDataCommand(c *client) *cobra.Command {
	return group("data", "Upload, list and download datasets and outputs",
		newDataUpload(c), newDataList(c), newDataShow(c), newDataDownload(c), newDataDelete(c))
}

// upload holds the flags of data upload.
type upload struct {
	file, serverFile, request string
	namespace, name           string
	partitions                int
	noHeader, extendSID       bool
	id, label, delimiter      string
	encoding, project         string
}

func newDataUpload(c *client) *cobra.Command {
	var u upload
	cmd := &cobra.Command{
		Use:   "upload {--file PATH | --server-file PATH | -f REQUEST} --namespace NS --name NAME",
		Short: "Create a dataset from a CSV file",
		Long: "Creates a dataset from a CSV file. --file uploads a file of this machine. --server-file\n" +
			"names a file in the party's upload folder. -f reads a request in the endpoint's format;\n" +
			"other flags override its fields. A byte order mark is dropped.",
		Example: "  hutong data upload --file guest.csv --namespace demo --name breast_guest --id id " +
			"--label y\n" +
			"  hutong data upload --file customers.txt --namespace demo --name customers --delimiter '\\t' --encoding gbk",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fields, err := u.fields(cmd)
			if err != nil {
				return err
			}
			var stored struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
				Count     *int64 `json:"count"`
			}
			if u.file == "" {
				request, err := jsonRequest(cmd, c, bfia.PathComponentUpload, fields)
				if err != nil {
					return err
				}
				_, err = c.do(request, &stored)
				if err != nil {
					return err
				}
			} else if err := c.sendFile(cmd, u.file, fields, &stored); err != nil {
				return err
			}
			rows := ""
			if stored.Count != nil {
				rows = fmt.Sprintf(", %d rows", *stored.Count)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s#%s%s\n", stored.Namespace, stored.Name, rows)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&u.file, "file", "", "a file of this machine to upload")
	f.StringVar(&u.serverFile, "server-file", "", "a file in the party's upload folder")
	f.StringVarP(&u.request, "request", "f", "", "the request (JSON); - reads standard input")
	f.StringVar(&u.namespace, "namespace", "", "the dataset's namespace")
	f.StringVar(&u.name, "name", "", "the dataset's name")
	numberFlag(f, &u.partitions, "partitions", 0, 0,
		"number of partitions to store (default: chosen by the party)")
	f.BoolVar(&u.noHeader, "no-header", false, "the first line holds data, not column names")
	f.BoolVar(&u.extendSID, "extend-sid", false,
		"add a column sid that numbers the rows, and permit repeated ids")
	f.StringVar(&u.id, "id", "", "the column that identifies rows")
	f.StringVar(&u.label, "label", "", "the column that holds labels")
	f.StringVar(&u.delimiter, "delimiter", "", "the separator of columns; '\\t' is a tab (default: a comma)")
	f.StringVar(&u.encoding, "encoding", "", "the file's encoding, such as gbk or utf-16 (default: utf-8)")
	f.StringVar(&u.project, "project", "",
		"the project to which a new dataset belongs (default: your only project, or default)")
	cmd.MarkFlagsMutuallyExclusive("file", "server-file")
	cmd.MarkFlagsOneRequired("file", "server-file", "request")
	return cmd
}

// fields returns the fields of the request. Flags override the request file.
func (u *upload) fields(cmd *cobra.Command) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if u.request != "" {
		var err error
		if fields, err = readFile(u.request, cmd.InOrStdin()); err != nil {
			return nil, err
		}
	}
	set := func(into map[string]json.RawMessage, name string, value any, given bool) {
		if given {
			into[name], _ = json.Marshal(value) // strings, numbers and booleans always marshal
		}
	}
	changed := cmd.Flags().Changed
	set(fields, "namespace", u.namespace, changed("namespace"))
	set(fields, "name", u.name, changed("name"))
	set(fields, "partitions", u.partitions, changed("partitions"))
	set(fields, "head", !u.noHeader, changed("no-header") || fields["head"] == nil)
	set(fields, "extend_sid", u.extendSID, changed("extend-sid"))
	set(fields, "project", u.project, changed("project"))
	set(fields, "encoding", u.encoding, changed("encoding"))
	meta := map[string]json.RawMessage{}
	if raw := fields["meta"]; raw != nil {
		if err := json.Unmarshal(raw, &meta); err != nil || meta == nil {
			return nil, fmt.Errorf("%s: meta: must be a JSON object", u.request)
		}
	}
	set(meta, "match_id_name", u.id, changed("id"))
	set(meta, "label_name", u.label, changed("label"))
	set(meta, "delimiter", u.delimiter, changed("delimiter"))
	if len(meta) > 0 {
		fields["meta"], _ = json.Marshal(meta)
	}
	set(fields, "file", u.serverFile, changed("server-file"))
	if u.file != "" {
		delete(fields, "file")
	} else if fields["file"] == nil {
		return nil, usagef("file is required: set --file, --server-file, or the field file in %s", u.request)
	}
	for _, name := range []string{"namespace", "name"} {
		if fields[name] == nil {
			return nil, usagef("%s is required: set --%s", name, name)
		}
	}
	return fields, nil
}

// jsonRequest returns a request without a timeout, because importing a large file takes long.
func jsonRequest(cmd *cobra.Command, c *client, path string,
	fields map[string]json.RawMessage) (*http.Request, error) {
	document, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("failed to encode the request: %w", err)
	}
	request, err := c.request(cmd.Context(), http.MethodPost, path, strings.NewReader(string(document)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

// sendFile streams a file as a multipart form, and shows the progress on a terminal.
func (c *client) sendFile(cmd *cobra.Command, name string, fields map[string]json.RawMessage,
	data any) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("--file: %s is not a regular file", name)
	}
	head, tail, contentType, err := formAround(fields, filepath.Base(name))
	if err != nil {
		return err
	}
	progress := &transfer{
		reader: io.LimitReader(file, info.Size()),
		total:  info.Size(),
		what:   filepath.Base(name),
		to:     terminal(cmd.ErrOrStderr()),
	}
	body := io.MultiReader(strings.NewReader(head), progress, strings.NewReader(tail))
	request, err := c.request(cmd.Context(), http.MethodPost, bfia.PathComponentFile, body)
	if err != nil {
		return err
	}
	request.ContentLength = int64(len(head)) + info.Size() + int64(len(tail))
	request.Header.Set("Content-Type", contentType)
	_, err = c.do(request, data)
	progress.end()
	return err
}

// formAround returns the parts of a multipart form before and after the file's content. The fields come
// first, so that the server knows them when the file arrives.
func formAround(fields map[string]json.RawMessage,
	fileName string) (head, tail, contentType string, err error) {
	var written strings.Builder
	form := multipart.NewWriter(&written)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := string(fields[name])
		var text string
		if json.Unmarshal(fields[name], &text) == nil {
			value = text
		}
		if err := form.WriteField(name, value); err != nil {
			return "", "", "", fmt.Errorf("failed to write the form: %w", err)
		}
	}
	if _, err := form.CreateFormFile("file", fileName); err != nil {
		return "", "", "", fmt.Errorf("failed to write the form: %w", err)
	}
	head = written.String()
	if err := form.Close(); err != nil {
		return "", "", "", fmt.Errorf("failed to write the form: %w", err)
	}
	return head, strings.TrimPrefix(written.String(), head), form.FormDataContentType(), nil
}

// transfer is a reader that shows its progress on a terminal, if there is one.
type transfer struct {
	reader      io.Reader
	total, done int64 // total is -1 if it is unknown
	what        string
	to          *os.File
	shown       time.Time
}

func (t *transfer) Read(p []byte) (int, error) {
	n, err := t.reader.Read(p)
	t.done += int64(n)
	if t.to != nil && (time.Since(t.shown) > 100*time.Millisecond || err != nil) {
		t.shown = time.Now()
		_, _ = fmt.Fprintf(t.to, "\r\x1b[K%s", t.line())
	}
	return n, err
}

func (t *transfer) line() string {
	if t.total < 0 {
		return fmt.Sprintf("%s: %s", t.what, size(t.done))
	}
	percent := 100
	if t.total > 0 {
		percent = int(100 * t.done / t.total)
	}
	return fmt.Sprintf("%s: %d%% of %s", t.what, percent, size(t.total))
}

func (t *transfer) end() {
	if t.to != nil {
		_, _ = io.WriteString(t.to, "\r\x1b[K")
	}
}

func newDataList(c *client) *cobra.Command {
	var namespace, project string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the uploaded datasets", Args: noArguments,
		Example: "  hutong data list --namespace demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			if project != "" {
				query.Set("project", project)
			}
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathDataQuery, query, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var tables []struct {
				Namespace  string `json:"namespace"`
				Name       string `json:"name"`
				Project    string `json:"project"`
				Count      int64  `json:"count"`
				Partitions int    `json:"partitions"`
				Bytes      int64  `json:"bytes"`
				Columns    []struct {
					Name string `json:"name"`
				} `json:"columns"`
				Updated int64 `json:"update_time"` // Unix milliseconds
			}
			if err := json.Unmarshal(data, &tables); err != nil {
				return fmt.Errorf("failed to decode the list of datasets: %w", err)
			}
			rows := [][]string{{"NAMESPACE", "NAME", "ROWS", "PARTITIONS", "SIZE", "UPDATED"}}
			if c.wide {
				rows[0] = append(rows[0], "COLUMNS")
			}
			var projects []string
			for _, t := range tables {
				projects = append(projects, t.Project)
				updated := time.UnixMilli(t.Updated)
				row := []string{t.Namespace, t.Name, strconv.FormatInt(t.Count, 10),
					strconv.Itoa(t.Partitions), size(t.Bytes), clock(&updated)}
				if c.wide {
					var names []string
					for _, column := range t.Columns {
						names = append(names, column.Name)
					}
					row = append(row, strings.Join(names, ", "))
				}
				rows = append(rows, row)
			}
			return printList(cmd, "datasets", withProjects(rows, 2, projects))
		},
	}
	cmd.Flags().StringVar(&namespace, "namespace", "", "only this namespace")
	cmd.Flags().StringVar(&project, "project", "", "only this project")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newDataDownload(c *client) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "download NAMESPACE NAME",
		Short: "Download a dataset as CSV, or another output as JSON",
		Long: "Downloads a dataset as CSV, or another output as its JSON document. The file appears\n" +
			"only when the download is complete, and only its owner can read it.",
		Example: "  hutong data download demo breast_guest -o guest.csv",
		Args:    exactly("NAMESPACE", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.downloadTo(cmd, args[0], args[1], out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the file to write (default: standard output)")
	return cmd
}

// downloadTo writes a dataset or document to a file, or to standard output if out is "" or "-".
func (c *client) downloadTo(cmd *cobra.Command, namespace, name, out string) error {
	return c.saveTo(cmd, downloadPath(namespace, name), out)
}

// saveTo writes what a path answers to a file, or to standard output if out is "" or "-".
func (c *client) saveTo(cmd *cobra.Command, path, out string) error {
	ctx, cancel := untilSignal(cmd.Context()) // an interrupted download removes its temporary file
	defer cancel()
	body, length, err := c.stream(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if out == "" || out == "-" {
		_, err = io.Copy(cmd.OutOrStdout(), body)
		return explainTransfer(err)
	}
	progress := &transfer{reader: body, total: length, what: filepath.Base(out),
		to: terminal(cmd.ErrOrStderr())}
	defer progress.end()
	return writeAtomically(out, progress)
}

func downloadPath(namespace, name string) string {
	return bfia.PathDataDownload + "?" + url.Values{"namespace": {namespace}, "name": {name}}.Encode()
}

// download opens the stream of a dataset or document. length is -1 if it is unknown.
func (c *client) download(ctx context.Context,
	namespace, name string) (body io.ReadCloser, length int64, err error) {
	return c.stream(ctx, downloadPath(namespace, name))
}

// stream opens the stream that a path answers. length is -1 if it is unknown.
func (c *client) stream(ctx context.Context, path string) (body io.ReadCloser, length int64, err error) {
	request, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, 0, err
	}
	if err := c.authorize(request); err != nil {
		return nil, 0, err
	}
	response, err := c.roundTrip(request)
	if err != nil {
		return nil, 0, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, response.ContentLength, nil
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return nil, 0, c.noAnswer(err)
	}
	_, err = openEnvelope(response, answer)
	return nil, 0, explainRefusal(request, err)
}

// explainTransfer replaces the error of a transfer that was cut off.
func explainTransfer(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the transfer was cut off: the data is incomplete; try again")
	}
	return err
}

// writeAtomically writes to a temporary file and renames it when it is complete. Only the owner can read the
// file, because it may hold rows of a dataset. Something other than a regular file, such as a pipe, is
// written to directly.
func writeAtomically(name string, from io.Reader) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		to, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, from)
		return errors.Join(explainTransfer(err), to.Close())
	}
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	err = errors.Join(explainTransfer(err), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
