package model

import "slices"

// components are the nodes that can be reached by next, grouped with those that they
// lead to and that lead back to them. A group comes after the groups that it leads to.
func components[N comparable](nodes []N, next func(N) []N) [][]N {
	// Tarjan's algorithm.
	var all [][]N
	var stack []N
	index, low, on := map[N]int{}, map[N]int{}, map[N]bool{}
	var visit func(n N)
	visit = func(n N) {
		index[n] = len(index) + 1
		low[n] = index[n]
		stack, on[n] = append(stack, n), true
		for _, m := range next(n) {
			if index[m] == 0 {
				visit(m)
				low[n] = min(low[n], low[m])
			} else if on[m] {
				low[n] = min(low[n], index[m])
			}
		}
		if low[n] != index[n] {
			return
		}
		at := len(stack) - 1
		for stack[at] != n {
			at--
		}
		for _, m := range stack[at:] {
			on[m] = false
		}
		all = append(all, slices.Clone(stack[at:]))
		stack = stack[:at]
	}
	for _, n := range nodes {
		if index[n] == 0 {
			visit(n)
		}
	}
	return all
}
