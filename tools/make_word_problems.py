#!/usr/bin/env python3
"""Makes word problems with worked answers, as training rows for links and as questions of any number: all from templates of
our own and a seed.

    tools/make_word_problems.py --n 500 --seed 1 > rows.jsonl                 training columns of all families
    tools/make_word_problems.py --n 100 --seed 2 --form gsm8k > test.jsonl    {"question", "answer": "... #### 18"}

Rows with different seeds do not overlap: the numbers, names and things of each are drawn anew and questions that were
drawn before are dropped within a file; --not FILE also drops those of another file.
"""
import argparse
import json
import random

NAMES = "Ada Ben Clara David Elena Farid Grace Hugo Ines Jonas Karim Lena Mina Noah Olga Pavel Rosa Samir Tara Viktor".split()
THINGS = "apples books buttons candles cards coins eggs flowers marbles pencils plates postcards seeds shells stamps stickers".split()
BOXES = "bags baskets boxes crates jars".split()


def problems(r):
    """Yields (question, [(what is found, expression, value)...]) of one random kind."""
    a, b, c = r.sample(NAMES, 3)
    t, box = r.choice(THINGS), r.choice(BOXES)
    n, m, k = r.randint(3, 12), r.randint(2, 9), r.randint(2, 20)
    price = r.randint(2, 15)
    kinds = [
        lambda: (f"{a} has {n} {box} with {m} {t} in each. {a} gives {k % (n * m)} {t} to {b}. How many {t} does {a} have left?",
                 [(f"{t} in all {box}", f"{n} * {m}", n * m), (f"{t} that are left", f"{n * m} - {k % (n * m)}", n * m - k % (n * m))]),
        lambda: (f"{a} has {k + n} {t}. {b} has {n} {t} fewer than {a}. How many {t} do they have together?",
                 [(f"{t} of {b}", f"{k + n} - {n}", k), (f"{t} together", f"{k + n} + {k}", 2 * k + n)]),
        lambda: (f"A ticket costs {price} dollars. {a} buys {n} tickets and pays with {price * n + k} dollars. How many dollars does {a} get back?",
                 [("cost of the tickets", f"{price} * {n}", price * n), ("money back", f"{price * n + k} - {price * n}", k)]),
        lambda: (f"{a} reads {n} pages every day. The book has {n * m} pages. After how many days has {a} finished it?",
                 [("number of days", f"{n * m} / {n}", m)]),
        lambda: (f"{a} saves {n} dollars a week and {b} saves {m} dollars a week. How many dollars have they saved together after {k} weeks?",
                 [("dollars saved in one week", f"{n} + {m}", n + m), (f"dollars after {k} weeks", f"{n + m} * {k}", (n + m) * k)]),
        lambda: (f"{a}, {b} and {c} share {3 * n} {t} equally. Then {a} finds {m} more. How many {t} does {a} have now?",
                 [("share of each", f"{3 * n} / 3", n), (f"{t} of {a}", f"{n} + {m}", n + m)]),
        lambda: (f"{a} has {n} {t}. {b} has {m} times as many. How many more {t} does {b} have than {a}?",
                 [(f"{t} of {b}", f"{n} * {m}", n * m), ("the difference", f"{n * m} - {n}", n * m - n)]),
        lambda: (f"A train has {m} cars with {10 * n} seats each. {k} seats are empty. How many passengers sit in the train?",
                 [("seats in all", f"{m} * {10 * n}", 10 * n * m), ("passengers", f"{10 * n * m} - {k}", 10 * n * m - k)]),
        lambda: (f"{a} works {m} hours on Monday and {n} hours on Tuesday for {price} dollars an hour. How many dollars does {a} earn?",
                 [("hours", f"{m} + {n}", m + n), ("dollars", f"{m + n} * {price}", (m + n) * price)]),
        lambda: (f"{a} packs {n * m} {t} into {box} of {n}. Each full one is sold for {price} dollars. How many dollars does {a} get?",
                 [(f"number of {box}", f"{n * m} / {n}", m), ("dollars", f"{m} * {price}", m * price)]),
        lambda: (f"A garden has {n} rows of {m} bushes. {k % (n * m)} bushes have died and {m} new ones were planted. How many bushes live there now?",
                 [("bushes at first", f"{n} * {m}", n * m), ("bushes that live", f"{n * m} - {k % (n * m)}", n * m - k % (n * m)),
                  ("with the new ones", f"{n * m - k % (n * m)} + {m}", n * m - k % (n * m) + m)]),
        lambda: (f"{a} cycles {n} km to work and the same way back, {m} days a week. How many km is that in a week?",
                 [("km a day", f"{n} * 2", 2 * n), ("km a week", f"{2 * n} * {m}", 2 * n * m)]),
    ]
    return r.choice(kinds)()


def row(question, steps, form):
    final = steps[-1][2]
    solution = "\n".join(f"{what}: {expr} = {value}" for what, expr, value in steps)
    if form == "gsm8k":
        return {"question": question, "answer": f"{solution}\n#### {final}"}
    plan = "\n".join(f"Step {i}: Find the {what.removeprefix('the ')}." for i, (what, _, _) in enumerate(steps, 1))
    refined = "\n".join(f"Step {i}: Compute {expr} to find the {what.removeprefix('the ')}." for i, (what, expr, _) in enumerate(steps, 1))
    answer = f"{solution}\nThe answer is \\boxed{{{final}}}."
    return {"question": question, "plan": plan, "refined_plan": refined, "answer": answer, "distill_expert": refined, "distill_learner": answer,
            "deliberation_reflector": refined, "deliberation_toolcaller": answer, "hie_math_expert": refined,
            "hie_code_expert": "\n".join(f"x{i} = {expr}" for i, (_, expr, _) in enumerate(steps, 1)), "hie_science_expert": plan, "hie_summarizer": answer}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--n", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--form", choices=["rows", "gsm8k"], default="rows")
    p.add_argument("--not", dest="other", metavar="FILE", help="leave out questions of this file")
    a = p.parse_args()
    r, seen = random.Random(a.seed), set()
    if a.other:
        seen = {json.loads(line)["question"] for line in open(a.other, encoding="utf-8")}
    done = tries = 0
    while done < a.n:
        tries += 1
        if tries > 100 * a.n + 1000:
            raise SystemExit("the templates do not give that many different questions")
        question, steps = problems(r)
        if question in seen or steps[-1][2] < 0:
            continue
        seen.add(question)
        print(json.dumps(row(question, steps, a.form)))
        done += 1


if __name__ == "__main__":
    main()
