package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// followCommand makes this program the component Follow of a provider of the process driver.
const followCommand = "follow"

// componentName is the variable of the environment that names the component.
const componentName = "runtime.component.name"

// fileParameter is the variable of the environment that names a part's file.
const fileParameter = "runtime.component.parameter.file"

// follow is the component Follow. It prints each line that is appended to the file that the parameter file
// names, so that a test chooses what a task logs and when. The line "exit N" ends the task with exit code N.
// The line "take D" takes the time D, as the start of a real component does.
// A part without the parameter ends at once.
func follow(dir string) int {
	name := os.Getenv(fileParameter)
	if name == "" {
		return 0
	}
	file, err := os.OpenFile(filepath.Join(dir, filepath.Base(name)), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		fmt.Println("level=error msg=" + strconv.Quote(err.Error()))
		return 1
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewReader(file)
	line := ""
	for {
		more, err := lines.ReadString('\n')
		line += more
		if errors.Is(err, io.EOF) {
			if _, err := os.Stat(dir); err != nil {
				return 1 // the stage has ended, and the party's supervisor outlives it
			}
			time.Sleep(10 * time.Millisecond) // the file grows
			continue
		}
		if err != nil {
			fmt.Println("level=error msg=" + strconv.Quote(err.Error()))
			return 1
		}
		text := strings.TrimSuffix(line, "\n")
		line = ""
		if code, ok := strings.CutPrefix(text, "exit "); ok {
			n, err := strconv.Atoi(code)
			if err != nil {
				n = 1
			}
			return n
		}
		if took, ok := strings.CutPrefix(text, "take "); ok {
			d, err := time.ParseDuration(took)
			if err != nil {
				fmt.Println("level=error msg=" + strconv.Quote(err.Error()))
				return 1
			}
			time.Sleep(d)
			continue
		}
		fmt.Println(text)
	}
}
