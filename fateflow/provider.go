package fateflow

import (
	"encoding/json"
	"slices"
	"strings"

	"hutong/bfia"
)

// provider returns a task's provider: the one that its configuration names, or the only registered one that
// has the component.
func (t *translation) provider(name string) (Provider, error) {
	named, err := t.namedProvider(name)
	if err != nil {
		return Provider{}, err
	}
	if named != nil && named.Name != "*" && named.Version != "" && named.Version != "*" {
		return Provider{named.Name, named.Version}, nil
	}

	component := t.Tasks[name].Component
	registered, err := t.catalog.Find(component)
	if err != nil {
		return Provider{}, err
	}
	fits := slices.DeleteFunc(slices.Clone(registered), func(p Provider) bool {
		return named != nil && named.Name != "*" && named.Name != p.Name
	})

	switch len(fits) {
	case 0:
		return Provider{}, bfia.Errorf(bfia.CodeNotFound,
			"component_ref: no provider that is registered at %s has %s", t.node, component)
	case 1:
		return fits[0], nil
	}
	var names []string
	for _, p := range fits {
		names = append(names, p.Name+":"+p.Version)
	}
	slices.Sort(names)
	return Provider{}, bfia.Errorf(bfia.CodeBadRequest,
		"conf.provider: %s has %s of several providers; name one of %s", t.node, component,
		strings.Join(names, ", "))
}

// namedProvider returns the provider that a task's configuration names for this node, or nil. All roles of
// the node must have the same one.
func (t *translation) namedProvider(name string) (*bfia.Registration, error) {
	var named *bfia.Registration
	for i, role := range t.ownRoles(name) {
		full, err := t.providerName(name, role)
		if err != nil {
			return nil, err
		}

		var r *bfia.Registration
		if full != "" {
			if r, err = bfia.ParseProviderName(full); err != nil {
				return nil, bfia.PrefixField("conf", err)
			}
		}
		if i > 0 && ((r == nil) != (named == nil) || r != nil && r.FullName() != named.FullName()) {
			return nil, bfia.Errorf(bfia.CodeBadRequest,
				"conf.provider: %s has two roles in the task with different providers", t.node)
		}
		named = r
	}
	return named, nil
}

// providerName returns the provider that the configuration names for one role of this node. A party's
// configuration overrides the task's, which overrides the job's.
func (t *translation) providerName(name, role string) (string, error) {
	var ofJob, ofTask, ofParty string
	if err := readProvider(t.Conf.Task, &ofJob); err != nil {
		return "", err
	}
	if err := readProvider(t.Tasks[name].Conf, &ofTask); err != nil {
		return "", err
	}

	first := ""
	for _, site := range sortedKeys(t.PartyTasks) {
		p := t.PartyTasks[site]
		if !contains(p.Parties, role, t.node) {
			continue
		}

		var all, own string
		if err := readProvider(p.Conf, &all); err != nil {
			return "", bfia.PrefixField("party_tasks."+site, err)
		}
		if err := readProvider(p.Tasks[name].Conf, &own); err != nil {
			return "", bfia.PrefixField("party_tasks."+site+".tasks."+name, err)
		}
		if own == "" {
			own = all
		}
		if own != "" && ofParty != "" && own != ofParty {
			return "", bfia.Errorf(bfia.CodeBadRequest,
				"conf.provider: party_tasks.%s and party_tasks.%s name different providers", first, site)
		}
		if own != "" {
			ofParty, first = own, site
		}
	}

	switch {
	case ofParty != "":
		return ofParty, nil
	case ofTask != "":
		return ofTask, nil
	}
	return ofJob, nil
}

// readProvider reads the provider that a conf names.
func readProvider(conf map[string]json.RawMessage, into *string) error {
	return bfia.PrefixField("conf", bfia.DecodeFields(conf, bfia.Optional("provider", into)))
}
