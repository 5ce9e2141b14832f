#!/usr/bin/env bash
# Measures what the notebooks beside it show by default: sweeps of the embedded model, each small enough
# for a few minutes on two cores, and the checkpoints of a training run of half an hour. Run it on a quiet
# machine; the rows say which one it was. `make.sh evals` makes that of the evaluations alone, `make.sh denoising`
# the traces of one answer, and the animation of them that heads the README.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

evaluations() {
    python -m llada_exp.tiny.train --run training --minutes 28 --save-minutes 3.5 --keep 9
    python -m llada_exp.evals experiment=checkpoints checkpoints=training 'benchmark=[tiny_short,tiny_long]' \
        max_samples=200 tracking=disabled
    sed "s#$work/##g" training/evals/latest/summary.jsonl >"$here/evals.jsonl" # no path of this machine
}
bench() { python -m llada_exp.bench "$@" tracking=disabled; }

denoising() {
    for name in exact fast; do
        bench decoding=$name name=denoising_$name workload.problems=long num_requests=1 warmup=1 decoding.trace=true
    done
    cp outputs/bench/denoising_exact/commits.parquet "$here/commits_vanilla.parquet"
    cp outputs/bench/denoising_fast/commits.parquet "$here/commits_fast.parquet"
    python -m llada_exp.animation "$here/../../docs/denoising.gif" "$here/../../docs/denoising.html" \
        --rows "$here/commits_vanilla.parquet" "$here/commits_fast.parquet" --label vanilla decoding=fast
}

case "${1:-all}" in
evals)
    evaluations
    exit
    ;;
denoising)
    denoising
    exit
    ;;
esac
evaluations
denoising

export OMP_NUM_THREADS=1 # a core for the server, one for the client: on two cores neither waits for the other

bench experiment=batch_size decoding=exact name=batch_size batch_size=1,4,16,32 num_requests=48
bench experiment=batch_vs_streaming decoding.cache=none name=batch_vs_streaming num_requests=48
bench experiment=wait_time name=wait_time max_wait_time=0,0.1,0.2,0.4 num_requests=48
bench experiment=load_curve name=load_curve rate=4,16,32,64,96,128 duration=4
bench experiment=decoding name=decoding decoding.cache=none,dual num_requests=48

cd outputs/bench
python -m llada_exp.bench.collect "$here/rows.parquet" batch_size batch_vs_streaming wait_time load_curve decoding
