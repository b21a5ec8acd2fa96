package logline

// HasClock reports whether a line has a time of day near its start, as an entry of a log has.
func HasClock(line string) bool {
	line = line[:min(len(line), 120)]
	for i := 2; i+5 < len(line); i++ {
		if line[i] == ':' && line[i+3] == ':' && isDigit(line[i-2]) && isDigit(line[i-1]) &&
			isDigit(line[i+1]) &&
			isDigit(line[i+2]) && isDigit(line[i+4]) && isDigit(line[i+5]) {
			return true
		}
	}
	return false
}
