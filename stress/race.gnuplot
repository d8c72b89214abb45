# SPDX-License-Identifier: GPL-2.0
# The picture of harness/commands/race.sh: what goes wrong in a thousand attaches, and how
# long it takes until a program goes on. gnuplot -e "dir='...'"

kernel(variant) = variant eq 'series' ? 'patched' : 'unpatched'
label(variant,way) = sprintf("by %s,\n%s", way, kernel(variant))

set terminal svg size 960,400 font 'sans,12' background 'white'
set output dir.'/race.svg'
set datafile separator tab
set multiplot layout 1,2
set border 3
set tics nomirror
set bmargin 4.5
set xrange [-0.7:*]

set title 'of 1,000 attaches go wrong'
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8
set boxwidth 0.9
set logscale y
set yrange [0.1:1000]
set format y '%g'
set key top left reverse Left
set grid y
none_is_none(n, of) = n > 0 ? n * 1000. / of : 0.1
plot dir.'/race.tsv' \
	   using (none_is_none($4, $3)):xtic(label(strcol(1), strcol(2))) title "another's event taken" lc rgb '#d95f02', \
	'' using (none_is_none($5, $3)) title "another's image read" lc rgb '#7570b3', \
	'' using (none_is_none($6, $3)) title 'waited in vain' lc rgb '#666666'

set title 'ms until so many % went on'
set style data lines
set xrange [1:*]
unset logscale y
unset format y
set logscale x
set xtics autofreq
set xlabel 'ms'
set yrange [0:100]
set key bottom right
legs = system("cut -f1 '".dir."/quantiles.tsv' | uniq")
variant(leg) = leg[:strstrt(leg,'-')-1]
way(leg) = leg[strstrt(leg,'-')+1:]
plot for [i=1:words(legs)] dir.'/quantiles.tsv' \
	using (strcol(1) eq word(legs,i) ? $3 : NaN):($2*100) \
	title sprintf('by %s, %s', way(word(legs,i)), kernel(variant(word(legs,i)))) lw 2 lc i
unset multiplot
