package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// wholeNumber is a flag with a whole number.
type wholeNumber struct {
	to    *int
	least int
}

// numberFlag defines a flag with a whole number that is not smaller than least.
func numberFlag(flags *pflag.FlagSet, to *int, name string, standard, least int, usage string) {
	*to = standard
	flags.Var(wholeNumber{to, least}, name, usage)
}

func (n wholeNumber) String() string {
	if n.to == nil {
		return "0"
	}
	return strconv.Itoa(*n.to)
}

func (n wholeNumber) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < n.least {
		return fmt.Errorf("must be a whole number, at least %d", n.least)
	}
	*n.to = value
	return nil
}

func (n wholeNumber) Type() string { return "int" }
