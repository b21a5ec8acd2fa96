package logline

import "strings"

// faultPrefixes lists how the first line of a traceback, a panic or an abort begins.
var faultPrefixes = []string{
	// Python.
	"Traceback (", "Fatal Python error:", "Exception in thread ", "Exception ignored in",
	"Exception Group Traceback", "+ Exception Group Traceback", "multiprocessing.pool.RemoteTraceback:",
	"During handling of the above exception", "The above exception was the direct cause",
	// Go.
	"panic: ", "fatal error: ", "unexpected fault address ", "SIGSEGV: ", "SIGABRT: ", "SIGBUS: ",
	"SIGFPE: ", "SIGQUIT: ", "WARNING: DATA RACE", "runtime: ",
	// Java and .NET.
	"Caused by: ", "# A fatal error has been detected", "# There is insufficient memory",
	"Error: Could not find or load main class", "Unhandled exception. ", "Unhandled Exception: ",
	// Rust.
	"thread '", "fatal runtime error: ",
	// C and C++.
	"AddressSanitizer:", "terminate called ", "terminating ", "libc++abi: ", "*** ", "free(): ",
	"malloc(): ", "realloc(): ", "munmap_chunk(): ", "malloc_consolidate(): ", "double free or corruption",
	"corrupted size vs. prev_size", "corrupted double-linked list", "tcache_thread_shutdown(): ",
	"Segmentation fault", "Aborted", "Bus error", "Illegal instruction", "Floating point exception",
	"Check failed: ", "C++ Traceback",
	// Others.
	"Uncaught ", "UnhandledPromiseRejection", "Error in ", "Execution halted", "OOM", "Killed",
}

// weakFaults lists those of faultPrefixes that need more than their first words.
var weakFaults = map[string]func(line string) bool{
	"thread '": func(line string) bool {
		return containsAny(line, " panicked at",
			"has overflowed its stack")
	},
	"runtime: ": func(line string) bool {
		return containsAny(line, "out of memory",
			"goroutine stack exceeds", "cannot")
	},
	"terminating ": func(line string) bool { return containsAny(line, "uncaught exception", "due to ") },
	"*** ": func(line string) bool {
		return containsAny(line, "Aborted at", "SIG", "Error in", "stack smashing", "buffer overflow",
			"Check failure",
			"Process received signal", "bit out of range", "invalid %N$", "longjmp causes")
	},
	"Aborted": func(line string) bool {
		return line == "Aborted" ||
			strings.HasPrefix(line, "Aborted (")
	},
	"Killed": func(line string) bool { return line == "Killed" },
	"OOM": func(line string) bool {
		return strings.HasPrefix(line, "OOM") &&
			containsAny(line, "kill")
	},
	"Error in ": func(line string) bool { return strings.Contains(line, ":") },
	"SIGQUIT: ": func(line string) bool {
		return strings.Contains(line, "PC=") ||
			strings.Contains(line, "quit")
	},
	"fatal error: ": func(string) bool { return true },
}

// faultParts lists what shows a fault anywhere in a line.
var faultParts = []string{
	"Segmentation fault", " Aborted  ", " Killed  ", " Bus error  ", " Illegal instruction  ",
	" Floating point exception  ", "RemoteTraceback:", "exec format error", "panic serving ",
	": Assertion `", ": Assertion '", "==ERROR: AddressSanitizer", "==ERROR: LeakSanitizer",
	"==ERROR: ThreadSanitizer", "==WARNING: ThreadSanitizer", ": runtime error: ",
	": error while loading shared libraries: ", "Process received signal ***",
	"Traceback (most recent call last)", "(core dumped)", " MPI_ABORT was invoked",
}

// faultsByByte holds faultPrefixes by their first byte.
var faultsByByte = func() (table [256][]string) {
	for _, prefix := range faultPrefixes {
		table[prefix[0]] = append(table[prefix[0]], prefix)
	}
	return table
}()

// startsFault reports whether a line without colours and indentation starts a traceback, a panic or an abort.
func startsFault(line string) bool {
	if line == "" {
		return false
	}
	for _, prefix := range faultsByByte[line[0]] {
		if strings.HasPrefix(line, prefix) {
			if enough := weakFaults[prefix]; enough == nil || enough(line) {
				return true
			}
		}
	}
	// The fewest lines have one of these bytes, which all parts have.
	if strings.ContainsAny(line, ":(*") {
		for _, part := range faultParts {
			if strings.Contains(line, part) {
				return true
			}
		}
	}
	return isExceptionLine(line) || isShellFault(line)
}

// isExceptionLine reports whether a line begins with the name of an exception: "ValueError: no such column",
// "java.lang.OutOfMemoryError: Java heap space".
func isExceptionLine(line string) bool {
	name := line
	if i := strings.IndexByte(line, ':'); i >= 0 {
		name = line[:i]
	}
	if len(name) > 120 || !strings.HasSuffix(name, "Error") && !strings.HasSuffix(name, "Exception") &&
		!strings.HasSuffix(name, "Interrupt") {
		return false
	}
	if name == "Error" || name == "Exception" { // a title; "Error: x" is a level
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') &&
			r != '_' && r != '.' && r != '$'
	}) < 0 && !isDigit(name[0])
}

// isShellFault reports whether a shell or a program's start wrote the line: "run.sh: line 3: psi: command not
// found", "run.py: error: the following arguments are required: --in".
func isShellFault(line string) bool {
	program, _, found := strings.Cut(line, ": ")
	if !found || len(program) > 200 || strings.IndexByte(program, ' ') >= 0 {
		return false
	}
	rest := line[len(program)+2:]
	switch {
	case strings.HasPrefix(rest, "error: "), strings.HasPrefix(rest, "fatal: "),
		strings.HasPrefix(rest, "can't open file "),
		strings.HasPrefix(rest, "cannot execute"):
		return true
	}
	// As the last words only: a message of a program may mention them.
	return strings.HasSuffix(rest, ": not found") || strings.HasSuffix(rest, ": command not found") ||
		strings.HasSuffix(rest, ": No such file or directory") ||
		strings.HasSuffix(rest, ": Permission denied")
}

// isSourceLine reports whether a line is one of Python's "  File "x.py", line 3", which comes before the
// message of a syntax error without a traceback's title.
func isSourceLine(line string) bool {
	rest, ok := strings.CutPrefix(line, `  File "`)
	return ok && strings.Contains(rest, `", line `)
}

// continuations lists how unindented lines begin that belong to the entry before them.
var continuations = []string{
	"... ", "goroutine ", "created by ", "exit status ", "note: ", "stack backtrace:", "Stack trace",
	"Stacktrace", "Suppressed: ", "at ", "}", "]", ")", `"""`, "│", "╭", "╰", "└", "├", "> ", "| ", "+-",
	"+ ", "^", "~", "====", "----", "[signal ", "[Previous line repeated", "Current thread ", "Thread ",
	"@ ",
}

func isContinuation(line string) bool {
	for _, prefix := range continuations {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

func containsAny(line string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(line, part) {
			return true
		}
	}
	return false
}
