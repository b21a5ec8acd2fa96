package logline

import (
	"strings"
)

const (
	// maxHeader is how far into a line its level is looked for.
	maxHeader = 300
	// maxPlainWords is how many words, such as a logger's or a machine's name, may precede a level that
	// only its capitals distinguish from prose.
	maxPlainWords = 1
)

// header is what a line of text begins with.
type header struct {
	level Level
	found bool // level is set
	timed bool // it begins with a time
}

// parseHeader finds the level near the start of a line of text. Prose mentions levels too, so one counts
// only where loggers write levels: first, in brackets, between separators, as a field, or in capitals after
// a time or other parts of a header.
func parseHeader(line string) header {
	p := headerParser{line: line[:min(len(line), maxHeader)]}
	p.parse()
	return p.header
}

// headerParser reads a header from left to right.
type headerParser struct {
	header
	line      string
	at        int
	tokens    int
	words     int  // tokens that are plain words
	separator byte // the separator before the current token: '|', '-' or none
	structure bool // a part was seen that loggers write: a time, a group in brackets, a field
	lastTime  bool // the last token was a time or a number
}

func (p *headerParser) parse() {
	if level, ok := glogLevel(p.line); ok {
		p.level, p.found, p.timed = level, true, true
		return
	}
	if level, rest, ok := syslogPriority(p.line); ok {
		p.level, p.found, p.line = level, true, rest
		return
	}
	for p.at < len(p.line) && !p.found && p.words <= 3 {
		c := p.line[p.at]
		switch {
		case c == ' ' || c == '\t':
			p.at++
		case c == '|' || c == ':' || c == ',' || c == ';':
			p.separate(c)
			p.at++
		case c == '[' || c == '(' || c == '<':
			if !p.group(c) {
				return
			}
		default:
			if !p.token() {
				return
			}
		}
	}
}

func (p *headerParser) separate(c byte) {
	if p.separator = 0; c == '|' {
		p.separator = c
	}
}

// group reads a part in brackets. It returns false if the brackets don't close.
func (p *headerParser) group(open byte) bool {
	closing := map[byte]byte{'[': ']', '(': ')', '<': '>'}[open]
	end := strings.IndexByte(p.line[p.at:], closing)
	if end < 0 || end > 120 {
		return false
	}
	content := strings.TrimSpace(p.line[p.at+1 : p.at+end])
	p.at += end + 1
	p.tokens++
	if open == '[' {
		if level, ok := groupLevel(content); ok {
			p.level, p.found = level, true
		}
	}
	if field := firstField(content); p.tokens == 1 && isTime(field) {
		p.timed = len(field) > 4 && strings.ContainsAny(field, ":-/")
	}
	p.structure, p.separator, p.lastTime = true, 0, false
	return true
}

// groupLevel returns the level in a pair of brackets: "error", "E", "06:36:01 INF", "I 2024-11-22 06:36:01".
func groupLevel(content string) (Level, bool) {
	if level, ok := ParseLevel(strings.TrimRight(content, ": ")); ok {
		return level, true
	}
	if len(content) == 1 {
		return letterLevel(content[0])
	}
	if len(content) < 3 {
		return 0, false
	}
	if level, ok := glogLevel(content); ok {
		return level, true
	}
	if content[1] == ' ' && isDigit(content[2]) {
		return letterLevel(content[0])
	}
	if !isDigit(content[0]) {
		return 0, false
	}
	for _, field := range strings.Fields(content)[1:] {
		if level, ok := ParseLevel(field); ok && isUpper(field) {
			return level, true
		}
		if len(field) == 1 {
			if level, ok := letterLevel(field[0]); ok {
				return level, true
			}
		}
	}
	return 0, false
}

// token reads a part up to a space or another separator. It returns false at the end of the header.
func (p *headerParser) token() bool {
	end := p.at
	for end < len(p.line) && !strings.ContainsRune(" \t|[", rune(p.line[end])) {
		if p.line[end] == '=' && p.isField(p.line[p.at:end]) {
			return p.field(p.line[p.at:end], end+1)
		}
		end++
	}
	text := p.line[p.at:end]
	defer func() { p.at, p.separator = end, p.separatorAfter(text) }()
	p.tokens++
	if strings.Trim(text, "-:") == "" {
		return true
	}
	if p.word(text, end) {
		return true
	}
	switch {
	case p.colonFields(text):
	case isTime(text):
		if p.tokens == 1 {
			p.timed = len(text) > 4 && strings.ContainsAny(text, ":-/") || !isDigit(text[0])
		}
		p.structure, p.lastTime = true, true
	case strings.ContainsAny(text, ".:/#"):
		p.lastTime = false // a logger's name, a file and line, a program with a colon
		if p.tokens == 1 && !strings.ContainsAny(text, "0123456789") {
			p.words++
		} else if p.tokens == 1 {
			p.structure = true
		}
	case end+1 < len(p.line) && p.line[end] == '[' && isDigit(p.line[end+1]):
		p.structure, p.lastTime = true, false // a program with its process id
	default:
		p.words++
		p.lastTime = false
	}
	return true
}

// colonFields reads a level between colons after a time, "06:36:01,002:ERROR:psi:text", and reports whether
// there is one.
func (p *headerParser) colonFields(text string) bool {
	if !isDigit(text[0]) {
		return false
	}
	rest := text
	for {
		name, after, found := strings.Cut(rest, ":")
		if level, ok := ParseLevel(name); ok && isUpper(name) {
			p.level, p.found = level, true
			return true
		}
		if !found || !isTime(name) {
			return false
		}
		rest = after
	}
}

func (p *headerParser) separatorAfter(text string) byte {
	if text == "-" || text == "--" || text == "---" {
		return '-'
	}
	return 0
}

// word reads the name of a level, and reports whether the token is one.
func (p *headerParser) word(text string, end int) bool {
	name, rest := text, ""
	if i := strings.IndexByte(text, ':'); i >= 0 {
		name, rest = text[:i], text[i:]
	}
	if len(name) == 1 && p.lastTime && p.tokens > 1 {
		p.level, p.found = letterOr(name[0])
		return p.found
	}
	level, ok := ParseLevel(name)
	if !ok {
		return false
	}
	after := strings.TrimLeft(p.line[end:], " \t")
	separated := p.separator != 0 && after != "" && (after[0] == '|' || after[0] == '-' || after[0] == ':')
	colon := rest != "" || p.tokens == 1 && strings.HasPrefix(after, ":")
	switch {
	case isUpper(name) && (p.tokens == 1 || p.structure && p.words <= maxPlainWords || separated ||
		rest != "" && p.words <= maxPlainWords):
	case p.tokens == 1 && colon:
	case separated:
	case p.structure && rest != "" && p.words <= maxPlainWords && p.lastTime:
	default:
		return false
	}
	p.level, p.found = level, true
	return true
}

func letterOr(letter byte) (Level, bool) { return letterLevel(letter) }

// isField reports whether the text before "=" is a field's name in a line that consists of fields.
func (p *headerParser) isField(name string) bool {
	if name == "" || p.words > 0 && !p.structure {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' &&
			r != '@'
	}) < 0
}

// field reads a field, name=value or name="value", whose value begins at start.
func (p *headerParser) field(name string, start int) bool {
	value, end := p.line[start:], 0
	if strings.HasPrefix(value, `"`) {
		end = quoteEnd(value)
		if end < 0 {
			return false
		}
		value, end = value[1:end], end+1
	} else {
		if end = strings.IndexAny(value, " \t"); end < 0 {
			end = len(value)
		}
		value = value[:end]
	}
	p.tokens++
	if p.tokens == 1 && (isTime(firstField(value)) || name == "time" || name == "ts") {
		p.timed = true
	}
	switch strings.ToLower(name) {
	case "level", "lvl", "severity", "levelname", "log_level", "loglevel", "log.level", "@level":
		if level, ok := ParseLevel(value); ok {
			p.level, p.found = level, true
		}
	}
	p.structure, p.lastTime, p.separator = true, false, 0
	p.at = start + end
	return true
}

// quoteEnd returns the index of the quote that closes the one at the start, or -1.
func quoteEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// glogLevel returns the level of a line of glog, klog or absl: a letter and a date, "E1122 06:36:01.002" or
// "E20241122 06:36:01".
func glogLevel(line string) (Level, bool) {
	level, ok := Level(0), false
	if len(line) > 12 {
		level, ok = letterLevel(line[0])
	}
	if !ok {
		return 0, false
	}
	digits := 0
	for digits < 9 && isDigit(line[1+digits]) {
		digits++
	}
	if digits != 4 && digits != 6 && digits != 8 {
		return 0, false
	}
	rest := line[1+digits:]
	return level, len(rest) > 6 && rest[0] == ' ' && isDigit(rest[1]) && rest[3] == ':'
}

// syslogPriority returns the level of the prefix by which systemd and the kernel write one: <3>.
func syslogPriority(line string) (level Level, rest string, ok bool) {
	if len(line) < 4 || line[0] != '<' || line[2] != '>' || line[1] < '0' || line[1] > '7' {
		return 0, line, false
	}
	level, ok = numberLevel(int(line[1] - '0'))
	return level, line[3:], ok
}

// isTime reports whether a token is a time, a date or a number, or one of their parts, such as AM or a
// month.
func isTime(token string) bool {
	if token == "" {
		return false
	}
	if !isDigit(token[0]) {
		switch strings.TrimRight(token, ".,") {
		case "UTC", "GMT", "Z", "AM", "PM", "CST", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
			"Sep", "Oct", "Nov", "Dec", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
			return true
		}
		return (token[0] == '+' || token[0] == '-') && len(token) == 5 && isTime(token[1:])
	}
	for i := 1; i < len(token); i++ {
		c := token[i]
		if !isDigit(c) && !strings.ContainsRune(":.,/-+TZAPMs", rune(c)) {
			return false
		}
	}
	return true
}

func firstField(s string) string {
	if i := strings.IndexByte(s, ' '); i >= 0 {
		return s[:i]
	}
	return s
}
