package dataset

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hutong/bfia"
	"hutong/store"
)

const (
	sidColumn = "sid"
	// MaxColumns is the maximal number of columns of a dataset.
	MaxColumns = 1 << 16
	// MaxRow is the maximal length of a row in bytes, since a row is in memory at once. A quote that is never
	// closed makes one row of the rest of the file.
	MaxRow = 8 << 20
)

// table reads a CSV file.
type table struct {
	meta       meta
	head, sid  bool
	generation string
	encoding   string // of the file

	names []string // of the file's columns
	types []colType
	id    int // the index of the id column
	rows  int64
}

// columns returns the dataset's columns.
func (t *table) columns() []store.Column {
	var cols []store.Column
	if t.sid {
		cols = append(cols, store.Column{Name: sidColumn, Type: typeString.String()})
	}
	for i, name := range t.names {
		cols = append(cols, store.Column{Name: name, Type: t.types[i].String()})
	}
	return cols
}

// read reads the whole file: it writes its rows to parts and adds their ids to ids.
func (t *table) read(ctx context.Context, r io.Reader, parts *partitions, ids *ids) error {
	decoded, name, err := decode(bufio.NewReaderSize(r, 64<<10), t.encoding)
	if err != nil {
		return err
	}
	t.encoding = name
	in := &input{ctx: ctx, r: decoded}
	buffered := bufio.NewReaderSize(in, 64<<10)
	cr := csv.NewReader(buffered) // uses this buffer, which is large enough
	cr.Comma = t.meta.delimiter
	cr.FieldsPerRecord = -1
	cr.ReuseRecord = true
	start := in.from

	row, err := t.next(cr, in)
	if err == io.EOF {
		return bfia.Errorf(bfia.CodeBadRequest, "file: is empty")
	}
	if err != nil {
		return err
	}
	firstLine, _ := cr.FieldPos(0)
	if err := t.begin(row, firstLine, parts); err != nil {
		return err
	}
	if t.head {
		in.from = start + cr.InputOffset()
		row, err = t.next(cr, in)
	}
	widths := "the header has"
	if !t.head {
		widths = fmt.Sprintf("line %d has", firstLine)
	}
	var out []string
	for ; err == nil; row, err = t.next(cr, in) {
		in.from = start + cr.InputOffset()
		line, _ := cr.FieldPos(0)
		if len(row) != len(t.names) {
			return bfia.Errorf(bfia.CodeBadRequest, "line %d: %d fields, %s %d", line, len(row), widths,
				len(t.names))
		}
		for i, v := range row {
			if t.types[i] != typeString && v != "" {
				t.types[i] = t.types[i].with(v)
			}
		}
		id := row[t.id]
		if id == "" {
			return bfia.Errorf(bfia.CodeBadRequest, "line %d: the id (column %q) is empty", line,
				t.names[t.id])
		}
		t.rows++
		out = out[:0]
		if t.sid {
			out = append(out, t.generation+"-"+strconv.FormatInt(t.rows, 10))
		}
		if err := parts.write(id, append(out, row...)); err != nil {
			return err
		}
		if t.sid {
			continue // ids may repeat
		}
		if err := ids.add(id, int64(line)); err != nil {
			return err
		}
	}
	if err != io.EOF {
		return err
	}
	if t.rows == 0 {
		return bfia.Errorf(bfia.CodeBadRequest, "file: has a header and no rows")
	}
	for i := range t.types {
		if t.types[i] == typeUnknown {
			t.types[i] = typeString
		}
	}
	return nil
}

// next reads a record and checks its text.
func (t *table) next(cr *csv.Reader, in *input) ([]string, error) {
	row, err := cr.Read()
	if err == io.EOF {
		return nil, err
	}
	if errors.Is(err, errLongRow) {
		// The CSV reader does not say which line it reached, but where the row begins.
		return nil, bfia.Errorf(bfia.CodeTooLarge,
			"the row that begins %d bytes into the file is longer than %d MiB (is a quote not closed?)",
			in.from, MaxRow>>20)
	}
	if perr := (*csv.ParseError)(nil); errors.As(err, &perr) {
		at := fmt.Sprintf("line %d", perr.StartLine)
		if perr.Line != perr.StartLine {
			at = fmt.Sprintf("line %d (in the row that begins in line %d)", perr.Line, perr.StartLine)
		}
		what := "a quote is in a field that is not quoted; quote the field and double the quote"
		if errors.Is(perr.Err, csv.ErrQuote) {
			what = "a quote is not closed, or something follows it in its field"
		}
		return nil, bfia.Errorf(bfia.CodeBadRequest, "%s: %s", at, what)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to read the file: %w", err)
	}
	for i, v := range row {
		if !t.validText(v) {
			line, _ := cr.FieldPos(i)
			return nil, bfia.Errorf(bfia.CodeBadRequest,
				"line %d: field %d is not %s; give the file's encoding, such as gbk (encoding, or --encoding gbk)",
				line, i+1, strings.ToUpper(t.encoding))
		}
		if strings.IndexByte(v, 0) >= 0 {
			line, _ := cr.FieldPos(i)
			return nil, bfia.Errorf(bfia.CodeBadRequest, "line %d: field %d contains a NUL", line, i+1)
		}
	}
	return row, nil
}

// validText reports whether a field is text in the file's encoding. The decoders of other encodings than
// UTF-8 replace what is not.
func (t *table) validText(field string) bool {
	if t.encoding == utf8Name {
		return utf8.ValidString(field)
	}
	return !strings.ContainsRune(field, utf8.RuneError)
}

// begin determines the columns from the first row, and writes the header of each partition.
func (t *table) begin(row []string, line int, parts *partitions) error {
	if len(row) > MaxColumns {
		return bfia.Errorf(bfia.CodeTooLarge, "line %d: %d fields, at most %d are allowed",
			line, len(row), MaxColumns)
	}

	switch {
	case t.head:
		t.names = slices.Clone(row)
	case t.meta.header != nil:
		t.names = t.meta.header
		if len(t.names) != len(row) {
			return bfia.Errorf(bfia.CodeBadRequest, "line %d: %d fields, meta.header names %d",
				line, len(row), len(t.names))
		}
	default:
		t.names = []string{t.meta.matchIDName}
		if t.meta.matchIDName == "" {
			t.names[0] = "id"
		}
		for i := range len(row) - 1 {
			t.names = append(t.names, "x"+strconv.Itoa(i))
		}
	}

	t.types = make([]colType, len(t.names))
	if err := t.checkNames(line); err != nil {
		return err
	}
	if t.meta.matchIDName != "" {
		if t.id = slices.Index(t.names, t.meta.matchIDName); t.id < 0 {
			return t.noColumn("match_id_name", t.meta.matchIDName)
		}
	}
	if label := t.meta.labelName; label != "" {
		switch slices.Index(t.names, label) {
		case -1:
			return t.noColumn("label_name", label)
		case t.id:
			return bfia.Errorf(bfia.CodeBadRequest, "meta.label_name: column %q is the id", label)
		}
	}

	header := t.names
	if t.sid {
		header = append([]string{sidColumn}, t.names...)
	}
	return parts.begin(header)
}

// checkNames checks the names of the columns. It refuses control characters, so that the header of a
// partition is always its first line.
func (t *table) checkNames(line int) error {
	where := "meta.header"
	if t.head {
		where = fmt.Sprintf("line %d", line)
	} else if t.meta.header == nil {
		where = "meta.match_id_name"
	}
	indexes := make(map[string]int, len(t.names))
	for i, name := range t.names {
		switch {
		case name == "":
			return bfia.Errorf(bfia.CodeBadRequest, "%s: column %d has no name", where, i+1)
		case strings.Contains(name, "\t"):
			return bfia.Errorf(bfia.CodeBadRequest, "%s: the name of column %d contains a tab; "+
				"if tabs separate the columns, set the delimiter to \\t", where, i+1)
		case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
			return bfia.Errorf(bfia.CodeBadRequest, "%s: the name of column %d contains a control character",
				where, i+1)
		case t.sid && name == sidColumn:
			return bfia.Errorf(bfia.CodeBadRequest, "extend_sid: the file has a column %q already", sidColumn)
		}
		if first, ok := indexes[name]; ok {
			return bfia.Errorf(bfia.CodeBadRequest, "%s: columns %d and %d have the same name, %q", where,
				first+1, i+1, shorten(name))
		}
		indexes[name] = i
	}
	return nil
}

func (t *table) noColumn(field, name string) error {
	const shown = 20
	var columns []string
	for _, n := range t.names[:min(shown, len(t.names))] {
		columns = append(columns, shorten(n))
	}
	more := ""
	if len(t.names) > shown {
		more = fmt.Sprintf(", and %d more", len(t.names)-shown)
	}
	return bfia.Errorf(bfia.CodeBadRequest, "meta.%s: column %q is not in the header (columns: %s%s)",
		field, shorten(name), strings.Join(columns, ", "), more)
}

func shorten(name string) string {
	if r := []rune(name); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return name
}

var errLongRow = errors.New("the row is too long")

// input reads the file until its context is done, and at most MaxRow bytes beyond the beginning of a row.
type input struct {
	ctx        context.Context
	r          io.Reader
	from, read int64 // where the row begins, how far the file has been read
}

func (in *input) Read(p []byte) (int, error) {
	if err := in.ctx.Err(); err != nil {
		return 0, err
	}
	if in.read-in.from > MaxRow {
		return 0, errLongRow
	}
	n, err := in.r.Read(p)
	in.read += int64(n)
	return n, err
}
