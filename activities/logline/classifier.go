package logline

import (
	"regexp"
	"strings"
	"time"
)

const (
	// entryGap is the longest pause within an entry. A logger writes all lines of an entry at once, so an
	// unindented line without a level that comes later belongs to no entry.
	entryGap = 50 * time.Millisecond
	// faultGap is the longest pause within a traceback or a panic, which some runtimes write line by line.
	faultGap = time.Second
)

// Classifier finds the levels of consecutive lines of one log. Lines without a level of their own, such as
// those of a traceback, have that of the entry to which they belong. A line that belongs to none is [Info].
// The zero value is ready to use. A copy continues from the same point.
type Classifier struct {
	level     Level // of the current entry
	begun     bool  // there is a current entry
	fault     bool  // the entry is a traceback, a panic or an abort
	exception bool  // a traceback waits for the line with its exception
	last      time.Time
}

// Next returns the level of the next line. A line may begin with its time and a space, as [Split] reads them.
func (c *Classifier) Next(line string) Level {
	at, text := Split(line)
	gap := at.Sub(c.last)
	if at.IsZero() || c.last.IsZero() {
		gap = 0
	}
	if !at.IsZero() {
		c.last = at
	}
	return c.next(text, gap)
}

func (c *Classifier) next(text string, gap time.Duration) Level {
	text = withoutWorker(StripANSI(text))
	bare := strings.TrimLeft(text, " \t")
	indented := len(bare) < len(text)
	switch {
	case bare == "":
		return c.current()
	case startsFault(bare) && !(indented && c.fault) || !c.fault && isSourceLine(text):
		title := strings.HasPrefix(bare, "Traceback (") || isSourceLine(text)
		closing := c.exception && !title && !indented
		c.begin(Error)
		c.fault, c.exception = true, title && !closing
		return Error
	case c.exception && !indented:
		// The exception's line, which may be a name alone: KeyboardInterrupt.
		c.exception = isContinuation(bare)
		if _, ok := ownLevel(bare, false); !ok {
			return c.current()
		}
	}
	if level, ok := ownLevel(bare, indented); ok {
		c.begin(level)
		return level
	}
	if c.belongs(bare, indented, gap) {
		return c.current()
	}
	c.begin(Info)
	return Info
}

// begin starts an entry.
func (c *Classifier) begin(level Level) {
	c.level, c.begun, c.fault, c.exception = level, true, false, false
}

func (c *Classifier) current() Level {
	if !c.begun {
		return Info
	}
	return c.level
}

// belongs reports whether a line without a level belongs to the current entry.
func (c *Classifier) belongs(bare string, indented bool, gap time.Duration) bool {
	switch {
	case !c.begun:
		return false
	case indented || isContinuation(bare):
		return true
	case c.fault:
		return gap <= faultGap
	}
	// A print after a debug entry must not vanish with it.
	return c.level > Debug && gap <= entryGap
}

// ownLevel returns the level that a line names itself. A line that begins with a time starts an entry, of
// level Info if it names none. An indented line, as in a traceback's source, must look more like an entry.
func ownLevel(bare string, indented bool) (Level, bool) {
	if bare[0] == '{' && !indented {
		if level, ok := jsonLevel(bare); ok {
			return level, true
		}
		return 0, false
	}
	if bare[0] == '|' && strings.HasSuffix(strings.TrimRight(bare, " \t\r"), "|") {
		return 0, false // a row of a table
	}
	if isMetric(bare) {
		return Info, !indented
	}
	h := parseHeader(bare)
	if h.found && indented && !h.timed {
		// rich leaves out a time that equals the one before, and pads.
		word := firstField(bare)
		if !isUpper(word) || !strings.HasPrefix(bare[len(word):], "  ") {
			return 0, false
		}
	}
	switch {
	case h.found:
		return h.level, true
	case isWarning(bare):
		return Warning, !indented
	case h.timed && !indented:
		return Info, true
	}
	return 0, false
}

// metricLine matches a line of metrics that begins with one whose name is a level's: "error: 0.234, loss: 2".
var metricLine = regexp.MustCompile(`^[A-Za-z]+\s*[:=|]?\s*` + metricValue +
	`([\s,;|/±(-]+([A-Za-z][\w.@-]*\s*[:=|]\s*)?` + metricValue + `)*[\s|.,;]*$`)

const metricValue = `[-+]?(\d+(\.\d*)?|\.\d+|(?i:nan|inf))([eE][-+]?\d+)?\s?(%|ms|s)?\)?`

// isMetric reports whether a line is of metrics, such as an error rate.
func isMetric(line string) bool {
	word := strings.TrimRight(line[:min(len(line), maxLevelWord+1)], ":=|")
	if i := strings.IndexAny(word, " \t:=|"); i >= 0 {
		word = word[:i]
	}
	_, isLevel := ParseLevel(word)
	return isLevel && len(line) <= maxHeader && metricLine.MatchString(line)
}

// isWarning reports whether a line is one of Python's warnings: "x.py:3: UserWarning: deprecated".
func isWarning(line string) bool {
	i := strings.Index(line, "Warning: ")
	if i < 0 {
		return false
	}
	place := line[:strings.LastIndexByte(line[:i], ' ')+1]
	return strings.HasSuffix(place, ": ") && len(place) > 4 && isDigit(place[len(place)-3]) || place == "" &&
		i > 0
}

// Split returns the time before a line and the rest. The time is zero if the line has none.
func Split(line string) (time.Time, string) {
	i := strings.IndexByte(line, ' ')
	if i < 20 || i > 40 || line[i-1] != 'Z' || line[10] != 'T' {
		return time.Time{}, line
	}
	at, err := time.Parse(time.RFC3339Nano, line[:i])
	if err != nil {
		return time.Time{}, line
	}
	return at, line[i+1:]
}

// withoutWorker removes what Ray and torchrun put before the lines of their workers: "(PSI pid=7) ",
// "[rank0]: ".
func withoutWorker(text string) string {
	if text == "" || text[0] != '(' && text[0] != '[' {
		return text
	}
	if text[0] == '(' {
		if i := strings.Index(text[:min(len(text), 100)], ") "); i > 0 &&
			(strings.Contains(text[:i], "pid=") || strings.HasPrefix(text, "(raylet")) {
			return text[i+2:]
		}
		return text
	}
	if strings.HasPrefix(text, "[rank") || strings.HasPrefix(text, "[default") {
		if i := strings.Index(text[:min(len(text), 30)], "]:"); i > 0 {
			return strings.TrimPrefix(text[i+2:], " ")
		}
	}
	return text
}
