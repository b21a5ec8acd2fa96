package logline

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	// maxRows bounds how far above or below a line its cursor moves.
	maxRows = 100
	// maxPad bounds the column to which it jumps.
	maxPad = 500
	// maxBar is the length from which the columns of a line don't count. It is no progress bar.
	maxBar = 1 << 10
)

// Row is what a line leaves in a row of a terminal.
type Row struct {
	Offset int // from the row in which the line began; negative: above it
	Text   []byte
}

// Resolve returns what a terminal would show of a line that overwrites itself by carriage returns, backspaces
// and moves of the cursor, as progress bars do: of each row the last state that is not blank. Moves between
// rows remain, for [Rows].
func Resolve(line []byte) []byte {
	if !Overwrites(line) {
		return line
	}
	return parse(line).resolved()
}

// Compact shortens an unfinished line to what [Resolve] needs of it when more is appended. So a progress bar
// that is drawn a million times takes little memory. It may change the line.
func Compact(line []byte) []byte {
	if !Overwrites(line) {
		return line
	}
	return append(line[:0], parse(line).compacted()...)
}

// Rows returns the rows that a line draws, from the top, and the row in which its cursor ends.
func Rows(line []byte) (rows []Row, end int) {
	if !Overwrites(line) {
		return []Row{{Text: line}}, 0
	}
	s := parse(line)
	s.leave()
	for _, offset := range slices.Sorted(maps.Keys(s.rows)) {
		rows = append(rows, Row{offset, s.rows[offset]})
	}
	return rows, s.row
}

// Overwrites reports whether a line may overwrite itself or lines above it.
func Overwrites(line []byte) bool {
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, '\b') >= 0 {
		return true
	}
	for i := bytes.IndexByte(line, '\x1b'); i >= 0 && i < len(line); {
		size := sequence(line[i:])
		if size == 0 || line[i+size-1] != 'm' {
			return true // a move, or perhaps the start of one
		}
		next := bytes.IndexByte(line[i+size:], '\x1b')
		if next < 0 {
			return false
		}
		i += size + next
	}
	return false
}

// sequence returns the length of the complete control sequence (CSI) at the start of a text, or 0.
func sequence(text []byte) int {
	if len(text) < 3 || text[0] != '\x1b' || text[1] != '[' {
		return 0
	}
	for i, c := range text[2:] {
		switch {
		case c >= '@' && c <= '~':
			return i + 3
		case c < ' ' || c > '~':
			return 0
		}
	}
	return 0
}

// screen is what a line has drawn. Its texts have no control sequences but colours and saved positions.
type screen struct {
	rows    map[int][]byte // what other rows show, and the last state of this one while current is blank
	row     int
	current []byte
	back    int    // how many characters the cursor is before the end of current
	rest    []byte // a control sequence without its end
}

// savedMark is how current notes a saved position.
var savedMark = []byte("\x1b[s")

func parse(line []byte) *screen {
	s := &screen{rows: map[int][]byte{}}
	for i := 0; i < len(line); {
		switch c := line[i]; c {
		case '\r':
			s.leave()
			i++
		case '\b':
			s.back++
			i++
		case '\x1b':
			size := s.escape(line[i:])
			if size == 0 {
				s.rest = line[i:]
				return s
			}
			i += size
		default:
			s.put(c)
			i++
		}
	}
	return s
}

// put adds a byte of text.
func (s *screen) put(c byte) {
	s.erase()
	if s.current = append(s.current, c); c > ' ' {
		delete(s.rows, s.row)
	}
}

// leave ends the current state.
func (s *screen) leave() {
	if !isBlank(s.current) {
		s.rows[s.row] = bytes.ReplaceAll(s.current, savedMark, nil)
	}
	s.current, s.back = nil, 0
}

// erase removes what the cursor moved back over, once something else is written there. From the start on,
// that is a new state.
func (s *screen) erase() {
	if s.back == 0 {
		return
	}
	end := withoutColours(s.current)
	for ; s.back > 0 && end > 0; s.back-- {
		for bytes.HasSuffix(s.current[:end], savedMark) {
			end = withoutColours(s.current[:end-len(savedMark)])
		}
		_, size := utf8.DecodeLastRune(s.current[:end])
		end = withoutColours(s.current[:end-size])
	}
	if s.back = 0; end == 0 {
		s.leave()
		return
	}
	s.current = s.current[:end]
}

// withoutColours returns the length of a text without the colours at its end.
func withoutColours(text []byte) int {
	for len(text) > 0 && text[len(text)-1] == 'm' {
		i := len(text) - 2
		for i > 0 && text[i] >= ' ' && text[i] < '@' {
			i--
		}
		if i < 1 || text[i] != '[' || text[i-1] != '\x1b' {
			break
		}
		text = text[:i-1]
	}
	return len(text)
}

// escape takes the escape sequence at the start of a text, and returns its length, or 0 if its end is not
// there yet. What is no sequence is left out.
func (s *screen) escape(text []byte) int {
	if len(text) == 1 {
		return 0
	}
	switch text[1] {
	case '[':
		for i, c := range text[2:] {
			switch {
			case c >= '@' && c <= '~':
				s.control(text[:i+3])
				return i + 3
			case c < ' ' || c > '~':
				return i + 2
			}
		}
		return 0
	case ']': // a title or a link
		i := bytes.IndexAny(text[2:], "\a\x1b\r\b")
		switch {
		case i < 0:
			return 0
		case text[2+i] == '\a':
			return i + 3
		}
		return i + 2
	case '7':
		s.save()
		return 2
	case '8':
		s.restore()
		return 2
	}
	if text[1] < ' ' || text[1] > '~' {
		return 1
	}
	return 2
}

// control applies a control sequence. Those that clear are left out: the last state remains.
func (s *screen) control(sequence []byte) {
	n, err := strconv.Atoi(string(sequence[2 : len(sequence)-1]))
	if err != nil || n < 1 {
		n = 1
	}
	switch sequence[len(sequence)-1] {
	case 'm':
		if s.back == 0 {
			s.current = append(s.current, sequence...)
		}
	case 'A', 'F':
		s.moveTo(s.row - min(n, maxRows))
	case 'B', 'E':
		s.moveTo(s.row + min(n, maxRows))
	case 'G', '`':
		s.column(n - 1)
	case 'D':
		s.back += min(n, len(s.current))
	case 's':
		s.save()
	case 'u':
		s.restore()
	}
}

// moveTo moves to another row. What is drawn there is a new state of it: bars move to its start as well.
func (s *screen) moveTo(row int) {
	s.leave()
	s.row = min(max(row, -maxRows), maxRows)
}

// width returns the number of characters of a text.
func width(text []byte) (n int) {
	for len(text) > 0 {
		size := sequence(text)
		if size == 0 {
			_, size = utf8.DecodeRune(text)
			n++
		}
		text = text[size:]
	}
	return n
}

// column moves to a column.
func (s *screen) column(column int) {
	if column <= 0 || len(s.current) > maxBar {
		s.leave()
		return
	}
	have := width(s.current)
	s.back = max(have-column, 0)
	for range min(column, maxPad) - have {
		s.put(' ')
	}
}

func (s *screen) save() {
	if s.erase(); len(s.current) > maxBar {
		return
	}
	s.current = append(bytes.ReplaceAll(s.current, savedMark, nil), savedMark...)
}

// restore moves to the saved position: the row's start if it is not in the current state.
func (s *screen) restore() {
	before, _, found := bytes.Cut(s.current, savedMark)
	if !found {
		before = nil
	}
	s.column(width(before))
}

// resolved returns what the screen shows.
func (s *screen) resolved() []byte {
	blank := s.current
	s.leave()
	out := s.draw()
	if len(s.rows[s.row]) == 0 {
		out = append(out, bytes.ReplaceAll(blank, savedMark, nil)...)
	}
	return out
}

// compacted returns a line that draws the screen and is in the same state.
func (s *screen) compacted() []byte {
	out := s.draw()
	if len(s.rows[s.row]) > 0 {
		out = append(out, '\r')
	}
	out = append(out, s.current...)
	out = append(out, bytes.Repeat([]byte{'\b'}, min(s.back, utf8.RuneCount(s.current)))...)
	return append(out, s.rest...)
}

// draw returns a line that draws the rows, and ends in the current one.
func (s *screen) draw() (out []byte) {
	at := 0
	for _, row := range slices.Sorted(maps.Keys(s.rows)) {
		if row != s.row {
			out = append(appendMove(out, row-at), s.rows[row]...)
			at = row
		}
	}
	return append(appendMove(out, s.row-at), s.rows[s.row]...)
}

func appendMove(out []byte, rows int) []byte {
	switch {
	case rows < 0:
		return append(strconv.AppendInt(append(out, "\x1b["...), int64(-rows), 10), 'A')
	case rows > 0:
		return append(strconv.AppendInt(append(out, "\x1b["...), int64(rows), 10), 'B')
	}
	return out
}

// isBlank reports whether a text has only spaces and control sequences.
func isBlank(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if size := sequence(text[i:]); size > 0 {
			i += size - 1
		} else if text[i] > ' ' {
			return false
		}
	}
	return true
}
