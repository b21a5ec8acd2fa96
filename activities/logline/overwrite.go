package logline

import (
	"bytes"
	"unicode/utf8"
)

// Resolve returns what a terminal would show of a line that overwrites itself with carriage returns and
// backspaces, as progress bars do: its last state that is not blank. It may change the line.
func Resolve(line []byte) []byte {
	if bytes.IndexByte(line, '\r') >= 0 {
		line = lastState(line)
	}
	if bytes.IndexByte(line, '\b') >= 0 {
		line = eraseBack(line)
	}
	return line
}

// lastState returns the last part between carriage returns that is not blank, or else the last one.
func lastState(line []byte) []byte {
	end := len(line)
	for {
		start := bytes.LastIndexByte(line[:end], '\r') + 1
		if part := line[start:end]; !isBlank(part) {
			return part
		}
		if start == 0 {
			return nil
		}
		end = start - 1
	}
}

// Compact shortens an unfinished line to what [Resolve] needs of it when more is appended. So a progress bar
// that is drawn a million times takes no memory.
func Compact(line []byte) []byte {
	last := bytes.LastIndexByte(line, '\r')
	if last < 0 {
		return line
	}
	tail := line[last+1:]
	if !isBlank(tail) {
		return append(line[:0], tail...)
	}
	state := lastState(line[:last])
	n := copy(line, state)
	return append(line[:n], line[last:]...)
}

// EndsBelow reports whether a line ends by moving the cursor up: the next line overwrites it. Nested progress
// bars of tqdm do that.
func EndsBelow(line []byte) bool {
	line = bytes.TrimRight(line, "\r")
	if !bytes.HasSuffix(line, []byte("A")) {
		return false
	}
	escape := bytes.LastIndexByte(line, '\x1b')
	if escape < 0 || escape+2 >= len(line) || line[escape+1] != '[' {
		return false
	}
	return len(bytes.Trim(line[escape+2:len(line)-1], "0123456789")) == 0
}

// isBlank reports whether a text has only spaces and control sequences.
func isBlank(text []byte) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\x1b' && i+1 < len(text) && text[i+1] == '[':
			for i += 2; i < len(text) && (text[i] < '@' || text[i] > '~'); i++ {
			}
		case c > ' ':
			return false
		}
	}
	return true
}

// eraseBack applies backspaces. Those at the end only move the cursor.
func eraseBack(line []byte) []byte {
	line = bytes.TrimRight(line, "\b")
	kept := line[:0]
	for i := 0; i < len(line); i++ {
		if line[i] != '\b' {
			kept = append(kept, line[i])
			continue
		}
		if len(kept) > 0 {
			_, size := utf8.DecodeLastRune(kept)
			kept = kept[:len(kept)-size]
		}
	}
	return kept
}
