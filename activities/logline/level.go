package logline

import "strings"

// Level is the severity of a log line.
type Level int8

// The levels, from the lowest. Trace counts as Debug; fatal, critical and panic count as Error.
const (
	Debug Level = iota
	Info
	Warning
	Error
)

// levelWords holds the words by which the loggers of several languages name a level.
var levelWords = map[string]Level{
	"debug": Debug, "debg": Debug, "debu": Debug, "dbug": Debug, "dbg": Debug, "trace": Debug, "trac": Debug,
	"trce": Debug, "trc": Debug, "verbose": Debug, "vrb": Debug, "fine": Debug, "finer": Debug,
	"finest": Debug, "notset": Debug,
	"info": Info, "inf": Info, "information": Info, "informational": Info, "notice": Info, "success": Info,
	"default": Info, "config": Info, "profile": Info,
	"warning": Warning, "warn": Warning, "wrn": Warning,
	"error": Error, "err": Error, "erro": Error, "eror": Error, "severe": Error, "fail": Error,
	"fatal": Error, "fata": Error, "ftl": Error, "critical": Error, "crit": Error, "panic": Error,
	"pani": Error, "pnc": Error, "dpanic": Error, "alert": Error, "emergency": Error, "emerg": Error,
}

// maxLevelWord is the length of the longest word of levelWords.
const maxLevelWord = 13

// ParseLevel returns the level of a name, in any case. It accepts slog's offsets (ERROR+2).
func ParseLevel(word string) (Level, bool) {
	if n := len(word); n > 2 && (word[n-2] == '+' || word[n-2] == '-') && isDigit(word[n-1]) {
		word = word[:n-2]
	}
	if len(word) < 3 || len(word) > maxLevelWord {
		return 0, false
	}
	var lower [maxLevelWord]byte
	for i := range len(word) {
		c := word[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	level, ok := levelWords[string(lower[:len(word)])]
	return level, ok
}

// letterLevel returns the level of the letter that glog, TensorFlow and others write instead of a name.
func letterLevel(letter byte) (Level, bool) {
	switch letter {
	case 'D', 'T', 'V':
		return Debug, true
	case 'I', 'N':
		return Info, true
	case 'W':
		return Warning, true
	case 'E', 'F', 'C':
		return Error, true
	}
	return 0, false
}

// numberLevel returns the level of a number: of syslog and GELF (0 to 7, the lowest is the gravest), of
// Bunyan and pino (10 to 60), or of Logback (5000 to 40000).
func numberLevel(n int) (Level, bool) {
	switch {
	case n < 0:
		return 0, false
	case n <= 3:
		return Error, true
	case n == 4:
		return Warning, true
	case n <= 6:
		return Info, true
	case n == 7:
		return Debug, true
	case n >= 10000:
		n /= 1000
		return fromTens(n + 10) // Logback's INFO is 20000
	case n >= 5000:
		return Debug, true
	}
	return fromTens(n)
}

// fromTens returns the level of a number on the scale of Bunyan and pino.
func fromTens(n int) (Level, bool) {
	switch {
	case n < 10 || n > 100:
		return 0, false
	case n < 30:
		return Debug, true
	case n < 40:
		return Info, true
	case n < 50:
		return Warning, true
	}
	return Error, true
}

// pythonLevel returns the level of one of Python's numbers (levelno).
func pythonLevel(n int) (Level, bool) { return fromTens(n + 10) }

// otelLevel returns the level of one of OpenTelemetry's severity numbers.
func otelLevel(n int) (Level, bool) {
	switch {
	case n < 1 || n > 24:
		return 0, false
	case n < 9:
		return Debug, true
	case n < 13:
		return Info, true
	case n < 17:
		return Warning, true
	}
	return Error, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isUpper(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && r != '+' && r != '-' &&
			(r < '0' || r > '9')
	}) < 0
}
